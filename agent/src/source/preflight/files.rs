//! What the container's open files and mappings forbid: found here rather than by CRIU while everything stands still.

use std::path::Path;

use procfs::ProcResult;
use procfs::process::{FDTarget, MMPermissions, MMapPath, MemoryMap, Process};
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use transship_proto::{Fault, Reason};

use super::tasks::still_there;
use crate::host::process::TaskGroup;

/// Kinds of anonymous inodes that CRIU dumps and restores. Source: criu/files.c; each was tried.
const ANONYMOUS: [&str; 7] = ["eventpoll", "eventfd", "timerfd", "signalfd", "inotify", "fanotify", "pidfd"];
/// Character devices that are the same everywhere, or that CRIU knows.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];
/// `IPPROTO_MPTCP`, which Go's servers listen with since 1.24.
const MPTCP: u32 = 262;

/// Every reason in the files and mappings of these processes not to move them.
pub fn refusals(groups: &[TaskGroup]) -> ProcResult<Vec<Fault>> {
    let mut found = Vec::new();
    for group in groups.iter().filter(|group| group.state != 'Z') {
        let who = format!("process {} ({})", group.pid, group.name);
        let Some(process) = still_there(Process::new(group.pid.cast_signed()))? else { continue };
        let Some(files) = still_there(process.fd())? else { continue };
        for file in files {
            let Some(file) = still_there(file)? else { continue };
            let refusal = match &file.target {
                FDTarget::AnonInode(kind) => anonymous(&who, kind),
                FDTarget::Path(path) => device(&who, path),
                FDTarget::Socket(_) => socket(&who, group.pid, file.fd),
                _ => None,
            };
            found.extend(refusal);
        }
        let maps = still_there(process.maps())?.map_or_else(Vec::new, |maps| maps.0);
        found.extend(maps.iter().filter_map(|map| mapping(&who, &map.pathname)));
        found.extend(leftover(&who, &maps));
    }
    Ok(found)
}

fn anonymous(who: &str, kind: &str) -> Option<Fault> {
    let kind = kind.trim_matches(['[', ']']);
    if kind == "io_uring" {
        return Some(io_uring(who));
    }
    if ANONYMOUS.contains(&kind) {
        return None;
    }
    Some(Fault::new(
        Reason::UnsupportedFile,
        format!("{who} has a file of the kind {kind} open, which CRIU can't dump"),
    ))
}

fn device(who: &str, path: &Path) -> Option<Fault> {
    if path == Path::new("/dev/net/tun") {
        return Some(Fault::new(
            Reason::OpenTun,
            format!("{who} has a TUN or TAP device open, which can't follow"),
        ));
    }
    let known = DEVICES.iter().any(|device| path == Path::new(device))
        || path.starts_with("/dev/pts")
        || path.starts_with("/dev/shm");
    let foreign = path.starts_with("/dev") && !known;
    foreign.then(|| {
        Fault::new(
            Reason::DeviceInUse,
            format!("{who} has the device {} open, which can't follow", path.display()),
        )
    })
}

fn mapping(who: &str, path: &MMapPath) -> Option<Fault> {
    let MMapPath::Path(path) = path else { return None };
    let text = path.to_string_lossy();
    if text.contains("[io_uring]") {
        return Some(io_uring(who));
    }
    let secret = text.starts_with("/secretmem");
    secret.then(|| {
        Fault::new(
            Reason::UnsupportedFile,
            format!("{who} has secret memory (memfd_secret), which nobody can read"),
        )
    })
}

/// A dump that was killed leaves CRIU's own code in a process. It does no harm where it is, but CRIU begins its next dump
/// by writing into the first code that it finds, and there it can't. Source: compel/src/lib/infect.c.
fn leftover(who: &str, maps: &[MemoryMap]) -> Option<Fault> {
    let code = maps.iter().find(|map| map.perms.contains(MMPermissions::EXECUTE))?;
    let MMapPath::Path(path) = &code.pathname else { return None };
    path.to_string_lossy().starts_with("/memfd:CRIUMFD").then(|| {
        let what = format!(
            "a checkpoint of {who} was killed and has left CRIU's code in it, so that CRIU can't dump it a second time; it runs well, but has to be restarted before it can be moved"
        );
        Fault::new(Reason::LeftoverOf, what)
    })
}

fn io_uring(who: &str) -> Fault {
    Fault::new(
        Reason::IoUring,
        format!("{who} uses io_uring, which CRIU can't dump; let it use another way of I/O"),
    )
}

/// Asks the socket itself what it is, through a copy of its descriptor. `None` also where the process has just ended.
fn socket(who: &str, pid: u32, descriptor: i32) -> Option<Fault> {
    let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    let copy = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
    let family = sockopt::socket_domain(&copy).ok()?;
    let protocol = sockopt::socket_protocol(&copy).ok()?.map_or(0, |protocol| protocol.as_raw().get());
    match family {
        AddressFamily::INET | AddressFamily::INET6 if protocol == MPTCP => {
            let what = format!(
                "{who} has an MPTCP socket, which CRIU can't dump; for a Go program set GODEBUG=multipathtcp=0"
            );
            Some(Fault::new(Reason::UnsupportedSocket, what))
        }
        AddressFamily::UNIX
        | AddressFamily::INET
        | AddressFamily::INET6
        | AddressFamily::PACKET
        | AddressFamily::NETLINK => None,
        other => {
            let what =
                format!("{who} has a socket of address family {}, which CRIU can't dump", other.as_raw());
            Some(Fault::new(Reason::UnsupportedSocket, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_inodes_are_allowed_by_name() {
        assert_eq!(anonymous("p", "[eventpoll]"), None);
        assert_eq!(anonymous("p", "inotify"), None);
        assert_eq!(anonymous("p", "[io_uring]").map(|fault| fault.reason), Some(Reason::IoUring));
        assert_eq!(anonymous("p", "[perf_event]").map(|fault| fault.reason), Some(Reason::UnsupportedFile));
    }

    #[test]
    fn only_devices_that_are_everywhere_may_be_open() {
        for fine in ["/dev/null", "/dev/pts/0", "/dev/shm/x", "/data/file"] {
            assert_eq!(device("p", Path::new(fine)), None, "{fine}");
        }
        assert_eq!(device("p", Path::new("/dev/net/tun")).map(|fault| fault.reason), Some(Reason::OpenTun));
        assert_eq!(device("p", Path::new("/dev/fuse")).map(|fault| fault.reason), Some(Reason::DeviceInUse));
    }

    #[test]
    fn sockets_tell_what_they_are() {
        let mine = std::process::id();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(socket("p", mine, std::os::fd::AsRawFd::as_raw_fd(&tcp)), None);
        let vsock = rustix::net::socket(AddressFamily::VSOCK, rustix::net::SocketType::STREAM, None);
        if let Ok(vsock) = vsock {
            let refusal = socket("p", mine, std::os::fd::AsRawFd::as_raw_fd(&vsock));
            assert_eq!(refusal.map(|fault| fault.reason), Some(Reason::UnsupportedSocket));
        }
    }
}

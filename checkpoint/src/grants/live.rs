//! What live or held tasks may do, read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, makedev, openat, openat2, statx,
};
use thiserror::Error;

use super::caps::CapSet;
use super::claim::{
    Capabilities, Claim, FileId, Label, Membership, Mount, Namespace, Origin, Restrictions, Seccomp, Task,
    Whose,
};
use super::files::{file_id, id_of};
use super::limits::Limits;

/// Why a task can't be read.
#[derive(Debug, Error)]
pub enum LiveError {
    /// Its files in `/proc` can't be read; `NotFound` if it ended meanwhile.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One of its files doesn't look as it ought to.
    #[error("{path} has no `{what}` that could be understood")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// The sandbox isn't where its bundle says, so it tells nothing of where containers ought to be.
    #[error(
        "process {pid} of the sandbox isn't in {cgroup} in any cgroup hierarchy, as its bundle says it is"
    )]
    SandboxElsewhere {
        /// The sandbox's process.
        pid: u32,
        /// Its bundle's cgroup.
        cgroup: String,
    },
}

/// Reads what all threads of these processes may do. Process ids are those of this node.
///
/// The mounts and namespaces are what the calling process sees of them, so it must be in the node's own namespaces.
pub fn claims_of_processes(pids: &[u32]) -> Result<Vec<Claim>, LiveError> {
    let mut mounts = BTreeMap::new();
    let mut claims = Vec::new();
    for &pid in pids {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let limits_path = process.join("limits");
        let limits = Limits::from_proc(&read(&limits_path)?)
            .ok_or(LiveError::Malformed { path: limits_path, what: "limit" })?;
        for tid in threads(&process)? {
            let thread = process.join("task").join(tid.to_string());
            let status = Status::read(&thread)?;
            if status.is_dead()? {
                continue;
            }
            let namespaces = namespaces(&thread)?;
            let mount_namespace =
                namespaces.iter().find(|(kind, _)| *kind == Namespace::Mount).map(|(_, id)| *id);
            let mounts = match mounts.get(&mount_namespace) {
                Some(known) => Arc::clone(known),
                None => {
                    let list: Arc<[Mount]> = read_mounts(&thread)?.into();
                    mounts.insert(mount_namespace, Arc::clone(&list));
                    list
                }
            };
            claims.push(claim(tid, &thread, &status, limits.clone(), mounts, namespaces)?);
        }
    }
    Ok(claims)
}

fn threads(process: &Path) -> Result<Vec<u32>, LiveError> {
    let path = process.join("task");
    let failed = |source| LiveError::Read { path: path.clone(), source };
    let mut tids = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        tids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    tids.sort_unstable();
    Ok(tids)
}

fn claim(
    id: u32,
    thread: &Path,
    status: &Status,
    limits: Limits,
    mounts: Arc<[Mount]>,
    namespaces: Vec<(Namespace, FileId)>,
) -> Result<Claim, LiveError> {
    let adj_path = thread.join("oom_score_adj");
    let oom_score_adj = read(&adj_path)?.trim().parse();
    Ok(Claim {
        task: Task { id, name: status.text("Name")?.to_owned() },
        users: status.four_numbers("Uid")?,
        primary_groups: status.four_numbers("Gid")?,
        groups: status.numbers("Groups")?,
        capabilities: Capabilities {
            inheritable: status.capabilities("CapInh")?,
            permitted: status.capabilities("CapPrm")?,
            effective: status.capabilities("CapEff")?,
            bounding: status.capabilities("CapBnd")?,
            ambient: status.capabilities("CapAmb")?,
        },
        no_new_privileges: status.number("NoNewPrivs")? != 0,
        seccomp: match status.number("Seccomp")? {
            0 => Seccomp::Off,
            1 => Seccomp::Strict,
            _ => Seccomp::Filter { count: status.number("Seccomp_filters")? as usize, programs: Vec::new() },
        },
        limits,
        oom_score_adj: Some(
            oom_score_adj.map_err(|_| LiveError::Malformed { path: adj_path, what: "oom_score_adj" })?,
        ),
        mounts,
        cgroups: memberships(thread)?,
        namespaces: namespaces.into_iter().map(|(kind, id)| (kind, Whose::This(id))).collect(),
        label: label(thread)?,
    })
}

/// `/proc/PID/task/TID/status`.
struct Status {
    path: PathBuf,
    text: String,
}

impl Status {
    fn read(thread: &Path) -> Result<Self, LiveError> {
        let path = thread.join("status");
        Ok(Self { text: read(&path)?, path })
    }

    fn malformed(&self, what: &'static str) -> LiveError {
        LiveError::Malformed { path: self.path.clone(), what }
    }

    fn text(&self, field: &'static str) -> Result<&str, LiveError> {
        let value = self.text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| self.malformed(field))
    }

    /// Whether it is a zombie, which does nothing any more and has nothing left to look at.
    fn is_dead(&self) -> Result<bool, LiveError> {
        Ok(self.text("State")?.starts_with(['Z', 'X']))
    }

    fn numbers(&self, field: &'static str) -> Result<Vec<u32>, LiveError> {
        let numbers = self.text(field)?.split_ascii_whitespace().map(u32::from_str).collect::<Result<_, _>>();
        numbers.map_err(|_| self.malformed(field))
    }

    fn number(&self, field: &'static str) -> Result<u32, LiveError> {
        self.text(field)?.parse().map_err(|_| self.malformed(field))
    }

    fn four_numbers(&self, field: &'static str) -> Result<[u32; 4], LiveError> {
        <[u32; 4]>::try_from(self.numbers(field)?).map_err(|_| self.malformed(field))
    }

    fn capabilities(&self, field: &'static str) -> Result<CapSet, LiveError> {
        let bits = u64::from_str_radix(self.text(field)?, 16).map_err(|_| self.malformed(field))?;
        Ok(CapSet::from_bits(bits))
    }
}

/// Where the task is in each cgroup hierarchy, by `/proc/PID/cgroup` (cgroups(7)).
pub(super) fn memberships(task: &Path) -> Result<Vec<Membership>, LiveError> {
    let path = task.join("cgroup");
    let membership = |line: &str| {
        let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
        Some(Membership { hierarchy: hierarchy.to_owned(), path: path.to_owned() })
    };
    let memberships = read(&path)?.lines().map(membership).collect::<Option<_>>();
    memberships.ok_or(LiveError::Malformed { path, what: "membership" })
}

/// The task's namespaces; those that this kernel doesn't have are left out.
pub(super) fn namespaces(task: &Path) -> Result<Vec<(Namespace, FileId)>, LiveError> {
    let mut namespaces = Vec::new();
    for (kind, _, file) in Namespace::ALL {
        let path = task.join("ns").join(file);
        match file_id(&path) {
            Ok(id) => namespaces.push((kind, id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && task.exists() => {}
            Err(source) => return Err(LiveError::Read { path, source }),
        }
    }
    Ok(namespaces)
}

/// The task's security label: none where no security module gives one.
fn label(task: &Path) -> Result<Label, LiveError> {
    let path = task.join("attr/current");
    match fs::read_to_string(&path) {
        Ok(label) => Ok(Label::Is(label.trim_end_matches(['\0', '\n']).to_owned())),
        // EINVAL: no module answers for `current`.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Label::None),
        Err(source) => Err(LiveError::Read { path, source }),
    }
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct MountLine {
    id: u64,
    at: PathBuf,
    kind: String,
    restrictions: Restrictions,
}

fn mount_line(line: &str) -> Option<MountLine> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let id = fields.next()?.parse().ok()?;
    let at = unescape(fields.nth(3)?);
    let options = fields.next()?;
    let mut after = after.split(' ');
    let kind = after.next()?.to_owned();
    let of_all_mounts_of_it = after.nth(1)?;
    let has = |name| options.split(',').any(|option| option == name);
    let restrictions = Restrictions {
        read_only: has("ro") || of_all_mounts_of_it.split(',').any(|option| option == "ro"),
        nosuid: has("nosuid"),
        nodev: has("nodev"),
        noexec: has("noexec"),
    };
    Some(MountLine { id, at, kind, restrictions })
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()).filter(|_| byte == b'\\') {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn read_mounts(task: &Path) -> Result<Vec<Mount>, LiveError> {
    let path = task.join("mountinfo");
    let text = read(&path)?;
    let root_path = task.join("root");
    let root = openat(CWD, &root_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| LiveError::Read { path: root_path, source: error.into() })?;
    let mut mounts = Vec::new();
    for line in text.lines() {
        let line =
            mount_line(line).ok_or_else(|| LiveError::Malformed { path: path.clone(), what: "mount" })?;
        // A mount point that can't be reached by its path lies under another mount.
        let within = line.at.strip_prefix("/").unwrap_or(&line.at);
        let within = if within.as_os_str().is_empty() { Path::new(".") } else { within };
        let seen = openat2(
            &root,
            within,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        );
        let stat = seen.and_then(|file| {
            statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
        });
        let origin = match stat {
            Ok(stat) if stat.stx_mnt_id == line.id => {
                Origin::Seen { file: id_of(&stat), null: is_null(&stat) }
            }
            _ => Origin::Covered,
        };
        mounts.push(Mount { at: line.at, kind: line.kind, restrictions: line.restrictions, origin });
    }
    Ok(mounts)
}

fn is_null(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::CharacterDevice
        && makedev(stat.stx_rdev_major, stat.stx_rdev_minor) == makedev(1, 3)
}

pub(super) fn read(path: &Path) -> Result<String, LiveError> {
    fs::read_to_string(path).map_err(|source| LiveError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_understood() {
        let line = r"57 115 0:63 /null /proc/a\040b rw,nosuid,relatime master:5 - tmpfs tmpfs ro,size=65536k";
        let mount = mount_line(line).unwrap();
        assert_eq!((mount.id, mount.at, mount.kind.as_str()), (57, PathBuf::from("/proc/a b"), "tmpfs"));
        let restrictions = Restrictions { read_only: true, nosuid: true, nodev: false, noexec: false };
        assert_eq!(mount.restrictions, restrictions);
    }

    #[test]
    fn the_own_process_can_be_read() {
        let claims = claims_of_processes(&[std::process::id()]).unwrap();
        let own = &claims[0];
        assert_eq!(own.users[1], rustix::process::geteuid().as_raw());
        assert!(own.mounts.iter().any(|mount| mount.at == Path::new("/")));
        assert!(own.mounts.iter().any(|mount| matches!(mount.origin, Origin::Seen { .. })));
        assert!(claims.iter().all(|claim| Arc::ptr_eq(&claim.mounts, &own.mounts)));
    }

    #[test]
    fn a_zombie_has_nothing_to_claim() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let exited = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let id = rustix::process::WaitId::Pid(rustix::process::Pid::from_child(&child));
        rustix::process::waitid(id, exited).unwrap();
        assert!(claims_of_processes(&[child.id()]).unwrap().is_empty());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let error = claims_of_processes(&[u32::MAX]).unwrap_err();
        assert!(matches!(error, LiveError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound));
    }
}

//! Against the kernel's own cgroups, of each version that this machine has. Needs root; says so where it
//! can't run.
#![expect(clippy::unwrap_used, reason = "a test that can not go on ends")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use transship_freezer::{Cgroup, FindError, FreezeError, HostCgroup, KillError, State, Version};

const SOON: Duration = Duration::from_secs(5);

/// Where the cgroups of each version are mounted here. `hierarchy` below finds v2 also in a folder of its
/// own, as on a hybrid machine.
fn mounts() -> Vec<(Version, &'static Path)> {
    let all = [
        (Version::V1, "/sys/fs/cgroup", "freezer/cgroup.procs"),
        (Version::V2, "/sys/fs/cgroup/unified", "cgroup.controllers"),
        (Version::V2, "/sys/fs/cgroup", "cgroup.controllers"),
    ];
    let root = rustix::process::geteuid().is_root();
    let here = all.into_iter().filter(|(_, mount, file)| root && Path::new(mount).join(file).exists());
    let here: Vec<_> = here.map(|(version, mount, _)| (version, Path::new(mount))).collect();
    if here.is_empty() {
        println!("skipped: needs root and a mounted cgroup hierarchy that can freeze");
    }
    here
}

/// A cgroup with processes that count; killed and removed at the end whatever happened.
struct Counting {
    cgroup: HostCgroup,
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Counting {
    fn start(mounts: &Path, processes: usize) -> Self {
        let cgroup = host_cgroup(mounts);
        let folder = tempfile::tempdir().unwrap();
        // Each in a cgroup of its own below, as a runtime may do it, so that "and below" is tested.
        let below = cgroup.cgroup().path().join("below");
        fs::create_dir(&below).unwrap();
        let children = (0..processes)
            .map(|n| {
                let mut child = shell("read go; i=0; while :; do i=$((i+1)); echo $i; done")
                    .stdin(Stdio::piped())
                    .stdout(fs::File::create(folder.path().join(n.to_string())).unwrap())
                    .spawn()
                    .unwrap();
                let to = if n % 2 == 0 { cgroup.cgroup().path() } else { &below };
                fs::write(to.join("cgroup.procs"), child.id().to_string()).unwrap();
                drop(child.stdin.take());
                child
            })
            .collect();
        let counting = Self { cgroup, children, folder };
        let before = counting.sizes();
        until("all count", || counting.sizes().iter().zip(&before).all(|(now, before)| now > before));
        counting
    }

    fn freezer(&self) -> &Cgroup {
        self.cgroup.cgroup()
    }

    fn sizes(&self) -> Vec<u64> {
        (0..self.children.len())
            .map(|n| fs::metadata(self.folder.path().join(n.to_string())).unwrap().len())
            .collect()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.cgroup.kill(SOON).unwrap();
        for child in &mut self.children {
            child.wait().unwrap();
        }
        match fs::remove_dir(self.freezer().path().join("below")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
            _ => {}
        }
        self.cgroup.remove().unwrap();
    }
}

fn host_cgroup(mounts: &Path) -> HostCgroup {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("transship-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    HostCgroup::create(mounts, &name).unwrap()
}

/// A shell in a process group of its own, so that nothing that is typed at the tests reaches it.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).process_group(0);
    command
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let ends = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < ends, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frozen_stands_still_and_thawed_goes_on() {
    for (version, mounts) in mounts() {
        let counting = Counting::start(mounts, 4);
        let cgroup = Cgroup::of_pid(counting.children[0].id(), mounts).unwrap();
        assert_eq!((cgroup.version(), cgroup.path()), (version, counting.freezer().path()));
        assert_eq!(cgroup.state().unwrap(), State::Thawed);
        for _ in 0..3 {
            cgroup.freeze(SOON).unwrap();
            assert_eq!(cgroup.state().unwrap(), State::Frozen);
            let stood = counting.sizes();
            std::thread::sleep(Duration::from_millis(30));
            assert_eq!(counting.sizes(), stood, "{version:?}: something ran while frozen");
            cgroup.thaw(SOON).unwrap();
            assert_eq!(cgroup.state().unwrap(), State::Thawed);
            until("they go on", || counting.sizes().iter().zip(&stood).all(|(now, stood)| now > stood));
        }
    }
}

#[test]
fn all_that_is_below_is_listed_once() {
    for (_, mounts) in mounts() {
        let counting = Counting::start(mounts, 3);
        let mut expected: Vec<u32> = counting.children.iter().map(Child::id).collect();
        expected.sort_unstable();
        assert_eq!(counting.freezer().processes().unwrap(), expected);
        assert_eq!(counting.freezer().threads().unwrap(), expected);
    }
}

#[test]
fn killed_while_frozen_runs_not_one_instruction() {
    for (version, mounts) in mounts() {
        let counting = Counting::start(mounts, 8);
        counting.freezer().freeze(SOON).unwrap();
        let stood = counting.sizes();
        counting.freezer().kill_frozen(SOON).unwrap();
        assert_eq!(counting.freezer().processes().unwrap(), []);
        assert_eq!(counting.sizes(), stood, "{version:?}: something ran on its way to death");
        assert_eq!(counting.freezer().state().unwrap(), State::Thawed);
        counting.freezer().kill_frozen(SOON).unwrap_err();
    }
}

#[test]
fn what_runs_is_not_killed_as_if_it_were_frozen() {
    for (_, mounts) in mounts() {
        let counting = Counting::start(mounts, 2);
        assert!(matches!(counting.freezer().kill_frozen(SOON), Err(KillError::NotFrozen(_))));
        assert_eq!(counting.freezer().processes().unwrap().len(), 2);
        counting.freezer().kill(SOON).unwrap();
        assert_eq!(counting.freezer().processes().unwrap(), []);
    }
}

#[test]
fn waiting_for_an_empty_cgroup_has_an_end() {
    for (_, mounts) in mounts() {
        let mut counting = Counting::start(mounts, 2);
        let given = Duration::from_millis(20);
        let left = counting.freezer().wait_empty(given).unwrap_err();
        assert!(matches!(&left, KillError::TimedOut { left, .. } if left.len() == 2), "{left}");
        for child in &mut counting.children {
            child.kill().unwrap();
        }
        counting.freezer().wait_empty(SOON).unwrap();
    }
}

#[test]
fn a_cgroup_that_is_gone_says_so() {
    for (_, mounts) in mounts() {
        let host = host_cgroup(mounts);
        let cgroup = host.cgroup().clone();
        host.remove().unwrap();
        host.remove().unwrap();
        assert!(matches!(cgroup.freeze(SOON), Err(FreezeError::Gone(_))));
        assert!(matches!(cgroup.thaw(SOON), Err(FreezeError::Gone(_))));
        assert!(cgroup.state().unwrap_err().is_gone());
        cgroup.kill(SOON).unwrap();
        cgroup.kill_frozen(SOON).unwrap();
        cgroup.wait_empty(SOON).unwrap();
    }
}

#[test]
fn neither_the_host_nor_ourselves_can_be_frozen() {
    for (version, mounts) in mounts() {
        let of_ourselves = Cgroup::of_pid(std::process::id(), mounts);
        assert!(
            matches!(of_ourselves, Err(FindError::Root(_) | FindError::Ourselves(_))),
            "{version:?}: {of_ourselves:?}"
        );
        let root = if version == Version::V1 { mounts.join("freezer") } else { mounts.to_owned() };
        assert!(matches!(Cgroup::at(root), Err(FindError::NotFreezable(_))));
    }
}

#[test]
fn a_host_cgroup_has_what_is_put_into_it() {
    for (version, mounts) in mounts() {
        let host = host_cgroup(mounts);
        let mut child = shell("exec sleep 1000").spawn().unwrap();
        host.add(child.id()).unwrap();
        for path in host.paths() {
            let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap();
            assert_eq!(listed, format!("{}\n", child.id()), "{}", path.display());
        }
        if version == Version::V1 {
            let expected = ["freezer", "memory", "pids", "devices", "systemd"].map(|c| mounts.join(c));
            let there = expected.iter().filter(|path| path.join("cgroup.procs").exists()).count();
            assert_eq!(host.paths().len(), there);
        }
        host.remove().unwrap_err();
        host.kill(SOON).unwrap();
        child.wait().unwrap();
        host.remove().unwrap();
    }
}

/// A process that asks a file system in user space for something, and no one ever answers. It lies beside an
/// empty cgroup, for whose sake the kernel says "frozen" too early. Under v1 newer kernels count such a sleep
/// as frozen, so this is of v2.
#[test]
fn a_task_that_does_not_freeze_is_named_and_the_rest_goes_on() {
    for (_, mounts) in mounts().into_iter().filter(|(version, _)| *version == Version::V2) {
        if !PathBuf::from("/dev/fuse").exists() {
            println!("skipped: needs /dev/fuse to make a task hang");
            continue;
        }
        let counting = Counting::start(mounts, 1);
        let folder = tempfile::tempdir().unwrap();
        // The mount is in a namespace of its own and ends with the process.
        let script = "exec 3<>/dev/fuse && mount -n -i -t fuse \
                      -o fd=3,rootmode=40000,user_id=0,group_id=0 fuse \"$0\" && echo mounted && exec ls \"$0\"";
        let mut hanging = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        until("it hangs", || {
            fs::read_to_string(format!("/proc/{}/wchan", hanging.id())).unwrap().starts_with("fuse")
        });
        counting.cgroup.add(hanging.id()).unwrap();

        let error = counting.freezer().freeze(Duration::from_millis(100)).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, FreezeError::FreezeTimedOut { .. }), "{text}");
        assert!(text.contains(&format!("task {} (ls) in state D", hanging.id())), "{text}");
        assert_eq!(counting.freezer().state().unwrap(), State::Thawed);
        let stood = counting.sizes();
        until("the other goes on", || counting.sizes() > stood);
        hanging.kill().unwrap();
        hanging.wait().unwrap();
    }
}

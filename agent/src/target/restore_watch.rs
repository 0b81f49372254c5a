//! What is restored doesn't run before the decision, whatever becomes of CRIU.
//!
//! CRIU holds the tasks by ptrace until it has told the last of them to stop. If it is killed then, the kernel lets go of
//! them, and those that weren't told yet run, beside a source that isn't decided about.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use procfs::process::{Process, Stat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setpriority_process};
use rustix::thread::gettid;
use tracing::{debug, warn};
use transship_freezer::{Cgroup, HostCgroup, KillError};
use transship_proto::{Fault, Reason};

use crate::host::process::{Stillness, stillness};
use crate::host::{CGROUPS, blocking, failed};

/// How often CRIU is looked for until it is found. From its start until it has restored anything it takes longer.
const LOOK: Duration = Duration::from_millis(2);
/// How long what is killed may take to be gone.
const END: Duration = Duration::from_secs(5);

/// A thread that kills a container under restore if CRIU lets go of it.
#[derive(Debug)]
pub struct RestoreWatch {
    thread: JoinHandle<Result<Seen, KillError>>,
    container: PathBuf,
    /// Dropping it ends the thread.
    over: PipeWriter,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Nothing ran.
    Nothing,
    /// Something could have run, and was killed.
    Loose,
}

impl RestoreWatch {
    /// Before the runtime is told to restore: it works in `helpers`, the container is to be in the cgroup of that path.
    pub fn begin(helpers: &HostCgroup, container: &str) -> Result<Self, Fault> {
        let folder = Cgroup::folder(CGROUPS.as_ref(), container)
            .map_err(|error| Fault::new(Reason::RestoreFailed, error.to_string()))?;
        let (reader, over) = std::io::pipe().map_err(failed("making a pipe"))?;
        let (helpers, container) = (helpers.cgroup().path().to_owned(), folder.clone());
        let watching = move || {
            hurry();
            watch(&reader, [&helpers, &folder], &folder)
        };
        let thread = thread::Builder::new().name("restore-watch".into()).spawn(watching);
        Ok(Self { thread: thread.map_err(failed("starting a thread"))?, container, over })
    }

    /// Ends it; from then on it kills nothing. What came of the restore is handed on; if something had to be killed, it
    /// has failed, for the restore's own reason if it has one. A container that isn't held for whatever reason is killed here, at once.
    pub async fn end<T: Send + 'static>(self, held: Result<T, Fault>) -> Result<T, Fault> {
        let Self { thread, container, over } = self;
        blocking(move || {
            if held.is_err() {
                kill(&container).map_err(not_ended)?;
            }
            drop(over);
            let broke_off = |_| Fault::new(Reason::HostError, "the watch over the restore broke off");
            match thread.join().map_err(broke_off)?.map_err(not_ended)? {
                Seen::Nothing => held,
                Seen::Loose => held.and(Err(Fault::new(
                    Reason::RestoreFailed,
                    "CRIU ended before it had stopped what it restored, which was killed; find out who ended CRIU",
                ))),
            }
        })
        .await
    }
}

fn not_ended(error: KillError) -> Fault {
    Fault::new(Reason::RestoreFailed, format!("what was half restored can't be ended: {error}"))
}

/// Ahead of what it may have to kill, on a machine that has too much to do. Real time, or what comes next to it: a cgroup
/// may have none of it.
fn hurry() {
    let thread = gettid().as_raw_nonzero().to_string();
    // By a program of util-linux, which does what no safe function of a library here does.
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "1", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if matches!(chrt.status(), Ok(status) if status.success()) {
        return;
    }
    // Of this thread alone (setpriority(2)).
    if let Err(error) = setpriority_process(None, -20) {
        debug!(%error, "the watch over a restore has no better priority than others");
    }
}

/// Until `over` is closed: whenever a CRIU in one of `places` ends, no task of the container may run.
fn watch(over: &PipeReader, places: [&Path; 2], container: &Path) -> Result<Seen, KillError> {
    let mut found: Vec<OwnedFd> = Vec::new();
    loop {
        if found.is_empty() {
            found = places.into_iter().flat_map(criu_in).collect();
        }
        let mut fds = vec![PollFd::new(over, PollFlags::IN)];
        fds.extend(found.iter().map(|criu| PollFd::new(criu, PollFlags::IN)));
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        if let Err(errno) = poll(&mut fds, found.is_empty().then_some(&look)) {
            debug!(%errno, "poll");
        }
        let mut happened = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>().into_iter();
        if happened.next() == Some(true) {
            return Ok(Seen::Nothing);
        }
        let before = found.len();
        found.retain(|_| happened.next() != Some(true));
        if found.len() < before && is_loose(container) {
            // Before anything is said of it: that takes longer.
            kill(container)?;
            warn!(cgroup = %container.display(), "CRIU has ended and left tasks that could run; they were killed");
            return Ok(Seen::Loose);
        }
    }
}

/// The CRIUs that work in a cgroup: not the tasks in the making, which have its name and are its children.
fn criu_in(folder: &Path) -> Vec<OwnedFd> {
    let pids = Cgroup::at(folder).ok().and_then(|cgroup| cgroup.processes().ok()).unwrap_or_default();
    pids.into_iter().filter_map(criu).collect()
}

fn criu(pid: u32) -> Option<OwnedFd> {
    let stat = |pid: i32| -> Option<Stat> { Process::new(pid).and_then(|process| process.stat()).ok() };
    let id = Pid::from_raw(pid.cast_signed())?;
    let found = pidfd_open(id, PidfdFlags::empty()).ok()?;
    let process = stat(pid.cast_signed()).filter(|process| process.comm == "criu")?;
    // One that is gone meanwhile isn't CRIU either.
    stat(process.ppid).is_none_or(|parent| parent.comm != "criu").then_some(found)
}

/// Whether a task there may run. What can't be looked at may.
fn is_loose(container: &Path) -> bool {
    let Ok(cgroup) = Cgroup::at(container) else { return false };
    match cgroup.processes() {
        Ok(pids) => {
            pids.into_iter().any(|pid| !matches!(stillness(pid), Ok(Stillness::Still | Stillness::Stopping)))
        }
        Err(error) => !error.is_gone(),
    }
}

fn kill(container: &Path) -> Result<(), KillError> {
    // It isn't there yet, or has gone.
    Cgroup::at(container).map_or(Ok(()), |cgroup| cgroup.kill(END))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Child;

    use rustix::process::{Signal, WaitOptions, geteuid, kill_process, waitpid};

    use super::*;

    /// A container's cgroup with a task in it, and a CRIU beside.
    struct Restore {
        helpers: HostCgroup,
        container: HostCgroup,
        criu: Child,
        task: Child,
        _programs: tempfile::TempDir,
    }

    impl Restore {
        /// None where cgroups can't be made.
        fn new(name: &str) -> Option<Self> {
            let cgroup =
                |kind| HostCgroup::create(CGROUPS.as_ref(), &format!("transship-test-{name}-{kind}"));
            if !geteuid().is_root() {
                println!("skipped: needs root and a mounted cgroup hierarchy that can freeze");
                return None;
            }
            let (helpers, container) = (cgroup("helpers").unwrap(), cgroup("container").unwrap());
            let programs = tempfile::tempdir().unwrap();
            let program = programs.path().join("criu");
            std::fs::copy("/bin/sleep", &program).unwrap();
            let criu = Command::new(&program).arg("60").spawn().unwrap();
            let task = Command::new("sleep").arg("60").spawn().unwrap();
            helpers.add(criu.id()).unwrap();
            container.add(task.id()).unwrap();
            Some(Self { helpers, container, criu, task, _programs: programs })
        }

        fn begin(&self) -> RestoreWatch {
            let name = self.container.cgroup().path().file_name().unwrap().to_str().unwrap();
            RestoreWatch::begin(&self.helpers, name).unwrap()
        }

        /// Waits until a descriptor of this process stands for CRIU.
        async fn is_watched(&self) {
            let line = format!("\nPid:\t{}\n", self.criu.id());
            let watched = || {
                let fds = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
                fds.filter_map(|fd| std::fs::read_to_string(fd.path()).ok()).any(|info| info.contains(&line))
            };
            while !watched() {
                tokio::time::sleep(LOOK).await;
            }
        }

        fn signal_of_task(&mut self) -> Option<i32> {
            self.task.wait().unwrap().signal()
        }

        fn stop_task(&self) {
            let task = Pid::from_child(&self.task);
            kill_process(task, Signal::STOP).unwrap();
            waitpid(Some(task), WaitOptions::UNTRACED).unwrap();
        }

        fn end_criu(&mut self) {
            self.criu.kill().unwrap();
            self.criu.wait().unwrap();
        }
    }

    impl Drop for Restore {
        fn drop(&mut self) {
            self.end_criu();
            self.task.kill().unwrap();
            self.task.wait().unwrap();
            self.helpers.remove().unwrap();
            self.container.remove().unwrap();
        }
    }

    #[tokio::test]
    async fn a_task_that_a_dead_criu_let_go_of_is_killed() {
        let Some(mut restore) = Restore::new("loose") else { return };
        let watch = restore.begin();
        restore.is_watched().await;
        restore.end_criu();
        assert_eq!(restore.signal_of_task(), Some(9));
        assert_eq!(watch.end(Ok(())).await.unwrap_err().reason, Reason::RestoreFailed);
    }

    #[tokio::test]
    async fn a_task_that_was_stopped_is_left_as_it_is() {
        let Some(mut restore) = Restore::new("held") else { return };
        let watch = restore.begin();
        restore.is_watched().await;
        restore.stop_task();
        restore.end_criu();
        assert_eq!(watch.end(Ok(7)).await.unwrap(), 7);
        assert!(restore.task.try_wait().unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_not_held_is_killed_at_once() {
        let Some(mut restore) = Restore::new("failed") else { return };
        let failed = restore.begin().end(Err::<(), _>(Fault::new(Reason::RestoreFailed, "not held"))).await;
        assert_eq!(failed.unwrap_err().message, "not held");
        assert_eq!(restore.signal_of_task(), Some(9));
    }
}

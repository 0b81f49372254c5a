//! The watchdog's hands and eyes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use transship_decision::watchdog::{Duty, Guard};
use transship_decision::{
    By, DecideError, Disk, Failure, Record, SignedRecord, Staged, UnixMillis, Watchdog,
};
use transship_freezer::{Cgroup, FindError, FreezeError, KillError};

use super::note;
use super::options::Options;

/// How long one thaw, or the death of what is killed, is waited for before it is tried again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why nothing is guarded. The agent must not freeze anything then.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArmError {
    #[error(transparent)]
    Stage(#[from] DecideError),
    #[error("migration folder {path} can't be watched: {errno}")]
    Inotify { path: String, errno: Errno },
    #[error("agent {pid} can't be watched: {errno}")]
    Agent { pid: i32, errno: Errno },
    #[error("nobody waits for the watchdog to be ready: {0}")]
    NobodyWaits(io::Error),
}

/// The watchdog's `kept`, written beforehand so that neither a full disk nor a slow one can keep a container
/// frozen. On the target there is none: time decides nothing there.
pub(super) fn stage(options: &Options) -> Result<Option<Staged<'_, Disk>>, DecideError> {
    if options.guard == Guard::Target {
        return Ok(None);
    }
    let why = Failure::new(
        "FreezeBudgetExceeded",
        format!("the freeze budget of {} ms was over; the container runs on", options.budgets.freeze_ms),
    );
    let (migration, pod) = (options.migration.clone(), options.pod.clone());
    let record = Record::kept(migration, pod, why, By::Watchdog, UnixMillis::now());
    options.state.stage(SignedRecord::unsigned(record)).map(Some)
}

/// An armed watchdog.
pub(super) struct Guarded<'a> {
    options: &'a Options,
    kept: Option<Staged<'a, Disk>>,
    rule: Watchdog,
    started: Instant,
    folder: OwnedFd,
    agent: Option<OwnedFd>,
    recovery: Option<(Child, OwnedFd)>,
}

impl<'a> Guarded<'a> {
    pub fn arm(options: &'a Options, kept: Option<Staged<'a, Disk>>) -> Result<Self, ArmError> {
        // What is typed at the agent's terminal isn't meant for its watchdog. Refused only to a process that
        // leads a group already, which is out of the agent's just as well.
        let _ = setsid();
        let folder = watch_folder(&options.state.migration_path(&options.migration))?;
        let agent =
            open(options.agent_pid).map_err(|errno| ArmError::Agent { pid: options.agent_pid, errno })?;
        let mut rule = Watchdog::new(options.guard, options.budgets, 0);
        if agent.is_none() {
            agent_gone(options, &mut rule, 0);
        }
        Ok(Self { options, kept, rule, started: Instant::now(), folder, agent, recovery: None })
    }

    /// Returns when nothing is left to watch.
    pub fn watch(&mut self) {
        loop {
            self.look();
            let now = self.now();
            match self.rule.next(now) {
                Duty::End => return,
                Duty::Wait(until) => self.wait(Some(until.saturating_sub(now))),
                Duty::Idle => self.wait(None),
                Duty::DecideKept => self.decide_kept(),
                Duty::AwaitCapture(until) => {
                    let within = Duration::from_millis(until.saturating_sub(now));
                    self.end_capture(|cgroup| cgroup.wait_empty(within));
                }
                Duty::KillCapture => self.end_capture(|cgroup| cgroup.kill(PATIENCE)),
                Duty::Thaw => self.thaw(),
                Duty::Recover => self.recover(),
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes notice of what others have written.
    fn look(&mut self) {
        let (state, id) = (&self.options.state, &self.options.migration);
        if state.done_path(id).exists() {
            self.rule.done();
        }
        match state.standing(id) {
            Ok(Some(record)) => self.rule.stands(record.record().verdict()),
            Ok(None) => {}
            // It stands and can't be read: deciding fails for the same reason and is tried again.
            Err(e) => note(&e),
        }
    }

    fn decide_kept(&mut self) {
        let Some(kept) = &self.kept else { return };
        match kept.decide() {
            Ok(standing) => {
                note(&format!("the freeze budget is over: {} stands", standing.record().verdict()));
                self.rule.stands(standing.record().verdict());
            }
            Err(e) => self.failed(&e),
        }
    }

    fn end_capture(&mut self, end: impl FnOnce(&Cgroup) -> Result<(), KillError>) {
        let ended = match &self.options.capture {
            None => Ok(()),
            Some(path) => match at(path) {
                Ok(None) => Ok(()),
                Ok(Some(cgroup)) => match end(&cgroup) {
                    // Its grace is over; what comes next is the rule's.
                    Err(KillError::TimedOut { .. }) => return,
                    ended => ended.map_err(|e| e.to_string()),
                },
                Err(e) => Err(e.to_string()),
            },
        };
        match ended {
            Ok(()) => self.rule.capture_ended(),
            Err(e) => self.failed(&e),
        }
    }

    fn thaw(&mut self) {
        // None waits for another: one that can't be thawed is no reason for the others to stand still.
        let thawed = self.options.cgroups.iter().map(|path| thaw_one(path)).fold(Ok(()), Result::and);
        match thawed {
            Ok(()) => self.rule.thawed(self.now()),
            Err(e) => self.failed(&e),
        }
    }

    fn recover(&mut self) {
        let Some((program, arguments)) = &self.options.recover else { return };
        note(&format!("the agent has died: starting {}", program.to_string_lossy()));
        let spawned = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
        self.rule.recovering();
        let watched = spawned.and_then(|mut child| match watch_child(&child) {
            Ok(fd) => Ok((child, fd)),
            // Whoever can't be watched is waited for.
            Err(_) => child.wait().and_then(|_| Err(io::Error::other("it could not be watched"))),
        });
        match watched {
            Ok(recovery) => self.recovery = Some(recovery),
            Err(e) => {
                note(&format!("{}: {e}", program.to_string_lossy()));
                self.rule.recovery_ended(self.now());
            }
        }
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        note(error);
        self.rule.failed(self.now());
    }

    /// Waits for an event, or for so many milliseconds.
    fn wait(&mut self, millis: Option<u64>) {
        let timeout = millis.map(|millis| {
            let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
            Timespec { tv_sec: seconds, tv_nsec: (millis % 1000) as i64 * 1_000_000 }
        });
        let watched = [Some(&self.folder), self.agent.as_ref(), self.recovery.as_ref().map(|(_, fd)| fd)];
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing can be waited for; going round in circles is still better than going away.
            Err(errno) => note(&format!("poll: {errno}")),
        }
        self.heed();
    }

    /// Finds out what has happened.
    fn heed(&mut self) {
        drain(&self.folder);
        if self.agent.as_ref().is_some_and(has_ended) {
            self.agent = None;
            let now = self.now();
            agent_gone(self.options, &mut self.rule, now);
        }
        if self.recovery.as_ref().is_some_and(|(_, fd)| has_ended(fd))
            && let Some((mut child, _)) = self.recovery.take()
        {
            match child.wait() {
                Ok(status) => note(&format!("the recovery ended: {status}")),
                Err(e) => note(&format!("the recovery can't be waited for: {e}")),
            }
            self.rule.recovery_ended(self.now());
        }
    }
}

fn agent_gone(options: &Options, rule: &mut Watchdog, now: u64) {
    match options.recover {
        Some(_) => rule.agent_gone(now),
        None => rule.agent_gone_for_good(),
    }
}

fn thaw_one(path: &Path) -> Result<(), String> {
    match at(path) {
        Ok(None) => Ok(()),
        Ok(Some(cgroup)) => match cgroup.thaw(PATIENCE) {
            Ok(()) | Err(FreezeError::Gone(_)) => Ok(()),
            Err(e) => Err(e.to_string()),
        },
        Err(e) => Err(e.to_string()),
    }
}

/// The cgroup at `path`; `None` if it is gone.
fn at(path: &Path) -> Result<Option<Cgroup>, FindError> {
    match Cgroup::at(path) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(_) if !path.exists() => Ok(None),
        Err(e) => Err(e),
    }
}

/// A descriptor that becomes readable when the process ends; `None` if it has.
fn open(pid: i32) -> Result<Option<OwnedFd>, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::INVAL)?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn watch_child(child: &Child) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(child.id()).map_err(|_| Errno::INVAL)?;
    open(pid)?.ok_or(Errno::SRCH)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)), Ok(1))
}

fn watch_folder(path: &Path) -> Result<OwnedFd, ArmError> {
    let failed = |errno| ArmError::Inotify { path: path.display().to_string(), errno };
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let folder = inotify::init(flags).map_err(failed)?;
    inotify::add_watch(&folder, path, inotify::WatchFlags::CREATE).map_err(failed)?;
    Ok(folder)
}

/// Takes the events away; what they are about is looked up.
fn drain(folder: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut events = inotify::Reader::new(folder.as_fd(), &mut buffer);
    while events.next().is_ok() {}
}

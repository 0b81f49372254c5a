use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::freeze::wait_readable;
use crate::{Cgroup, FreezeError, State, TasksError, Version};

/// Why what is in a cgroup could not be killed.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// [`Cgroup::kill_frozen`] of a cgroup that reads back as anything but frozen. Nothing was done.
    #[error("cgroup {} is not frozen, so what is in it could still run before it dies", .0.display())]
    NotFrozen(PathBuf),
    /// Processes are left. They have SIGKILL pending and will run no code of their own.
    #[error("cgroup {}: processes {left:?} are not gone {after:?} after SIGKILL: look at what they wait for", cgroup.display())]
    TimedOut {
        /// Its folder.
        cgroup: PathBuf,
        /// Who is left.
        left: Vec<u32>,
        /// The time they were given.
        after: Duration,
    },
    /// A process could not be sent SIGKILL.
    #[error("process {pid} can't be killed: {source}")]
    Signal {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Its tasks can't be listed.
    #[error(transparent)]
    Tasks(TasksError),
    /// It could not be thawed, which under v1 its processes need in order to die.
    #[error(transparent)]
    Thaw(#[from] FreezeError),
}

impl Cgroup {
    /// Kills all that is in a frozen cgroup such that none of it runs one instruction more, and waits until
    /// it is empty. Gone or empty before is fine.
    ///
    /// Under v1 every process gets SIGKILL while frozen, then the cgroup is thawed: each dies before it
    /// comes back to its own code. A runtime's `kill` thaws too early for that. Under v2 `cgroup.kill` does
    /// it, and the empty cgroup is thawed afterwards.
    ///
    /// # Errors
    /// [`KillError::NotFrozen`] changes nothing. After any other error it may be called again, or
    /// [`Cgroup::kill`].
    pub fn kill_frozen(&self, within: Duration) -> Result<(), KillError> {
        match self.state() {
            Ok(State::Frozen) => self.kill(within),
            Ok(_) => Err(KillError::NotFrozen(self.path().to_owned())),
            Err(e) if e.is_gone() => Ok(()),
            Err(e) => Err(KillError::Tasks(e)),
        }
    }

    /// Kills all that is in it, frozen or not, and waits until it is empty and thawed. Gone or empty before
    /// is fine.
    ///
    /// # Errors
    /// [`KillError`], never [`KillError::NotFrozen`].
    pub fn kill(&self, within: Duration) -> Result<(), KillError> {
        let ends = Instant::now() + within;
        loop {
            // Again in each round: what isn't frozen may have forked meanwhile. The youngest first: a CRIU at work here
            // lets go of those that it restores when it dies, and they shall not run then.
            for pid in self.listed()?.into_iter().rev() {
                kill_one(pid)?;
            }
            if self.version() == Version::V1 {
                self.thaw_if_there(ends)?;
            }
            if self.wait_for_one(ends)?.is_none() {
                break;
            }
            if Instant::now() >= ends {
                return Err(self.timed_out(within)?);
            }
        }
        self.thaw_if_there(ends)
    }

    /// Waits until no process is in it, or it is gone.
    ///
    /// # Errors
    /// [`KillError::TimedOut`], [`KillError::Tasks`].
    pub fn wait_empty(&self, within: Duration) -> Result<(), KillError> {
        let ends = Instant::now() + within;
        while self.wait_for_one(ends)?.is_some() {
            if Instant::now() >= ends {
                return Err(self.timed_out(within)?);
            }
        }
        Ok(())
    }

    fn timed_out(&self, after: Duration) -> Result<KillError, KillError> {
        Ok(KillError::TimedOut { cgroup: self.path().to_owned(), left: self.listed()?, after })
    }

    /// Waits for the end of one of its processes; `None` if it has none.
    fn wait_for_one(&self, ends: Instant) -> Result<Option<u32>, KillError> {
        let Some(pid) = self.listed()?.first().copied() else { return Ok(None) };
        let signal = |source: io::Error| KillError::Signal { pid, source };
        let id = as_pid(pid)?;
        match pidfd_open(id, PidfdFlags::empty()) {
            Ok(fd) => {
                let ended = wait_readable(fd.as_fd(), PollFlags::IN, ends).map_err(signal)?;
                if ended && self.listed()?.contains(&pid) {
                    // Ended, and not taken off the list yet: there is no event for that.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Err(Errno::SRCH) => {}
            Err(errno) => return Err(signal(errno.into())),
        }
        Ok(Some(pid))
    }

    fn thaw_if_there(&self, ends: Instant) -> Result<(), KillError> {
        // Never less than a moment: what has to be thawed in order to die must be, however late it is.
        let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(50));
        match self.thaw(left) {
            Ok(()) | Err(FreezeError::Gone(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn listed(&self) -> Result<Vec<u32>, KillError> {
        match self.processes() {
            Ok(pids) => Ok(pids),
            Err(e) if e.is_gone() => Ok(Vec::new()),
            Err(e) => Err(KillError::Tasks(e)),
        }
    }
}

fn as_pid(pid: u32) -> Result<Pid, KillError> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // 0 is how a process of another pid namespace is listed.
    let why = "not visible from this pid namespace; run on the host";
    id.ok_or_else(|| KillError::Signal { pid, source: io::Error::other(why) })
}

fn kill_one(pid: u32) -> Result<(), KillError> {
    match kill_process(as_pid(pid)?, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(KillError::Signal { pid, source: errno.into() }),
    }
}

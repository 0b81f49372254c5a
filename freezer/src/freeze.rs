use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cgroup::{is_gone, is_set};
use crate::{Cgroup, State, Stuck, Version};

/// Cgroup v1 tells nobody when it has frozen, so it is asked this often. A freeze takes a few of these. So
/// does v2 where its word isn't enough.
const STEP: Duration = Duration::from_millis(1);

/// Why a cgroup could not be frozen or thawed.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// It didn't freeze in time, and was thawed again.
    #[error("FreezeTimedOut: cgroup {} did not freeze within {after:?} and was thawed again{}", cgroup.display(), Stuck::list(stuck))]
    FreezeTimedOut {
        /// Its folder.
        cgroup: PathBuf,
        /// The time it was given.
        after: Duration,
        /// The tasks that sleep uninterruptibly: these kept it from freezing.
        stuck: Vec<Stuck>,
    },
    /// It doesn't read back as thawed; a cgroup above it may be frozen.
    #[error("cgroup {} is still frozen {after:?} after it was thawed: is a cgroup above it frozen?", cgroup.display())]
    ThawTimedOut {
        /// Its folder.
        cgroup: PathBuf,
        /// The time it was given.
        after: Duration,
    },
    /// It is gone, and every process with it.
    #[error("cgroup {} is gone: its container has ended", .0.display())]
    Gone(PathBuf),
    /// The kernel refused.
    #[error("cgroup {}: {source}", cgroup.display())]
    Kernel {
        /// Its folder.
        cgroup: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Cgroup {
    /// Freezes every task in it and below. On `Ok` it has been read back as [`State::Frozen`].
    ///
    /// # Errors
    /// After any error it has been thawed again, as far as it lets itself be.
    pub fn freeze(&self, within: Duration) -> Result<(), FreezeError> {
        let frozen = self.change(State::Frozen, within);
        match frozen {
            Ok(true) => Ok(()),
            Ok(false) => {
                // Under v2 a frozen task sleeps interruptibly and a thaw wakes all, so the stuck ones are
                // looked for before it. Under v1 a frozen task looks like a stuck one, so after it.
                let before = self.stuck();
                self.thaw(within)?;
                let stuck = if self.version() == Version::V2 { before? } else { self.stuck()? };
                Err(FreezeError::FreezeTimedOut { cgroup: self.path().to_owned(), after: within, stuck })
            }
            Err(source) => {
                let error = self.freeze_error(source);
                match error {
                    FreezeError::Gone(_) => {}
                    _ => self.thaw(within)?,
                }
                Err(error)
            }
        }
    }

    /// Thaws it. On `Ok` it has been read back as [`State::Thawed`].
    ///
    /// # Errors
    /// [`FreezeError`]. [`FreezeError::Gone`] means that there is nothing to thaw.
    pub fn thaw(&self, within: Duration) -> Result<(), FreezeError> {
        match self.change(State::Thawed, within) {
            Ok(true) => Ok(()),
            Ok(false) => Err(FreezeError::ThawTimedOut { cgroup: self.path().to_owned(), after: within }),
            Err(source) => Err(self.freeze_error(source)),
        }
    }

    fn stuck(&self) -> Result<Vec<Stuck>, FreezeError> {
        match self.threads() {
            Ok(threads) => Ok(Stuck::among(&threads)),
            Err(e) if e.is_gone() => Err(FreezeError::Gone(e.path)),
            Err(e) => Err(FreezeError::Kernel { cgroup: e.path, source: e.source }),
        }
    }

    /// Whether it read back as `wanted` within the time.
    fn change(&self, wanted: State, within: Duration) -> io::Result<bool> {
        let ends = Instant::now() + within;
        match self.version() {
            Version::V1 => self.change_v1(wanted, ends),
            Version::V2 => self.change_v2(wanted, ends),
        }
    }

    fn change_v1(&self, wanted: State, ends: Instant) -> io::Result<bool> {
        let word = if wanted == State::Frozen { "FROZEN" } else { "THAWED" };
        loop {
            // Written each time: a task that was forked while the others froze may have been missed.
            self.write("freezer.state", word)?;
            if self.state().map_err(|e| e.source)? == wanted {
                return Ok(true);
            }
            if Instant::now() >= ends {
                return Ok(false);
            }
            std::thread::sleep(STEP);
        }
    }

    fn change_v2(&self, wanted: State, ends: Instant) -> io::Result<bool> {
        let (word, frozen) = if wanted == State::Frozen { ("1", true) } else { ("0", false) };
        let mut events = File::open(self.path().join("cgroup.events"))?;
        self.write("cgroup.freeze", word)?;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            let said = is_set(&text, "frozen") == frozen;
            if said && self.state().map_err(|e| e.source)? == wanted {
                return Ok(true);
            }
            if Instant::now() >= ends {
                return Ok(false);
            }
            if said {
                // There is no event for the rest.
                std::thread::sleep(STEP);
            } else {
                wait_readable(events.as_fd(), PollFlags::PRI, ends)?;
            }
        }
    }

    fn freeze_error(&self, source: io::Error) -> FreezeError {
        let cgroup = self.path().to_owned();
        if is_gone(&source) { FreezeError::Gone(cgroup) } else { FreezeError::Kernel { cgroup, source } }
    }
}

/// Waits for `flags`; `false` when the time is over.
pub(crate) fn wait_readable(
    fd: std::os::fd::BorrowedFd<'_>,
    flags: PollFlags,
    ends: Instant,
) -> io::Result<bool> {
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

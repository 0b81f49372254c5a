//! What the shell is told.

use std::process::{ExitCode, Termination};

/// How a command ended. Clap itself ends the process with 2 where it was called wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed; of a migration: the source runs on.
    Failed,
    /// 3: refused by preflight, before anything was touched.
    Refused,
    /// 4: waited as long as it was told to.
    TimedOut,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Refused => 3,
            Self::TimedOut => 4,
        })
    }
}

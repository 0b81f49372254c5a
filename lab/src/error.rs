//! What can go wrong in a lab.

use std::path::PathBuf;

/// Why a lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A file operation failed.
    #[error("could not {what} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program could not be started at all.
    #[error("could not start `{command}`: {source}")]
    Spawn {
        /// The program and its arguments.
        command: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("`{command}` ended with {status}: {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said, its standard error first.
        output: String,
    },
    /// containerd refused a call of the Container Runtime Interface.
    #[error("{call}: {}", status.message())]
    Cri {
        /// The call's name.
        call: String,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// There is no such lab.
    #[error("no lab `{0}` is up; `cargo xtask lab up --name {0}` brings it up")]
    NotUp(String),
    /// A lab of that name is up already, with other settings.
    #[error("lab `{name}` is up with {what} {is}, not {asked}; `cargo xtask lab down --name {name}` first")]
    Different {
        /// The lab's name.
        name: String,
        /// Which setting.
        what: &'static str,
        /// Its value in the lab that is up.
        is: String,
        /// The value asked for.
        asked: String,
    },
    /// A name, node or option that the lab doesn't know.
    #[error("{0}")]
    Usage(String),
    /// This machine can't do what the lab needs.
    #[error("this machine can't do it: {what}; {mend}")]
    Machine {
        /// What is missing.
        what: String,
        /// What to do about it.
        mend: &'static str,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{detail}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// Where to read on, or what was seen last.
        detail: String,
    },
    /// Part of a lab is in a state that it can't be used in.
    #[error("{0}")]
    Broken(String),
}

/// What most functions of the lab return.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Names the path and the deed in a file error: `fs::read(&p).at("read", &p)`.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| LabError::File { what, path: path.into(), source })
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, what: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(std::io::Error::from).at(what, path)
    }
}

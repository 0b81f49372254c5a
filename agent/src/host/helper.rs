//! Processes that work beside the agent, in a cgroup of their own.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use transship_proto::Fault;

use super::failed;

/// A process that is already there, in its cgroup, and becomes its program at [`Armed::go`]. It is made before the
/// freeze, so that the freeze doesn't wait for it, and no moment passes in which it is outside its cgroup.
#[derive(Debug)]
pub struct Armed {
    child: Child,
    input: ChildStdin,
    what: String,
}

/// A running helper. Dropping it leaves it running: a CRIU at work must never be killed by accident.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    what: String,
}

impl Armed {
    /// Starts the waiting process and lets `enter` put its PID into a cgroup. `log` takes what it prints.
    pub fn new(
        program: &Path,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
        log: &Path,
        enter: impl FnOnce(u32) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        let what = program.display().to_string();
        let printed = std::fs::File::create(log).map_err(failed(format_args!("making {}", log.display())))?;
        let copy = printed.try_clone().map_err(failed(format_args!("opening {}", log.display())))?;
        let mut child = Command::new("/bin/sh")
            // End of file instead of the word means that the agent is gone: then nothing is done.
            .args(["-c", "read -r _ && exec \"$@\"", "sh"])
            .arg(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(printed)
            .stderr(copy)
            .spawn()
            .map_err(failed(format_args!("starting /bin/sh for {what}")))?;
        let gone = || failed(format_args!("starting {what}"))(std::io::ErrorKind::UnexpectedEof.into());
        let input = child.stdin.take().ok_or_else(gone)?;
        enter(child.id().ok_or_else(gone)?)?;
        Ok(Self { child, input, what })
    }

    /// Lets it become its program.
    pub async fn go(mut self) -> Result<Helper, Fault> {
        self.input.write_all(b"go\n").await.map_err(failed(format_args!("starting {}", self.what)))?;
        Ok(Helper { child: self.child, what: self.what })
    }
}

impl Helper {
    /// Waits for its end.
    pub async fn wait(&mut self) -> Result<ExitStatus, Fault> {
        self.child.wait().await.map_err(failed(format_args!("waiting for {}", self.what)))
    }
}

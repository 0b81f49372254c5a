//! The OCI runtime under the container runtime: runc.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::process::Command;
use transship_proto::{Fault, Reason};

/// runc, or whatever stands at its place, with the state folder that one container runtime gave it.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    /// The program.
    pub program: PathBuf,
    /// Its `--root`.
    pub root: PathBuf,
}

/// What the OCI runtime says of a container.
#[derive(Debug, Clone, Deserialize)]
pub struct OciState {
    /// `created`, `running`, `paused` or `stopped`.
    pub status: String,
    /// The first process, in the host's PID namespace; 0 when it is gone.
    #[serde(default)]
    pub pid: i32,
    /// Where the bundle lies.
    pub bundle: PathBuf,
}

/// The environment variable by which CRIU finds a configuration of its own, whatever runs it (criu(8)).
pub const CRIU_CONFIG_VARIABLE: &str = "CRIU_CONFIG_FILE";

/// Where CRIU writes and what it is told.
#[derive(Debug, Clone)]
pub struct CheckpointOptions {
    /// Where the images go.
    pub images: PathBuf,
    /// Where logs and scratch files go.
    pub work: PathBuf,
    /// CRIU's own configuration, for all that runc has no flag for.
    pub criu_config: PathBuf,
}

impl OciRuntime {
    /// What the runtime says of a container.
    pub async fn state(&self, id: &str) -> Result<OciState, Fault> {
        let output = self.command(["state", id]).output().await.map_err(|error| self.cannot_run(&error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let what = format!("{} doesn't know container {id}: {}", self.program.display(), said.trim());
            return Err(Fault::new(Reason::RuntimeError, what));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let what =
                format!("{} state {id} answered with something unreadable: {error}", self.program.display());
            Fault::new(Reason::RuntimeError, what)
        })
    }

    /// The arguments that dump a container and leave it as it was, frozen. Connections that are being made are skipped:
    /// a busy server always has some. runc tells CRIU yes or no to that, whatever a configuration says.
    pub fn checkpoint_arguments(&self, id: &str, options: &CheckpointOptions) -> Vec<OsString> {
        let path = |flag: &str, path: &Path| [OsString::from(flag), path.as_os_str().to_owned()];
        let mut arguments: Vec<OsString> =
            ["checkpoint", "--leave-running", "--file-locks", "--tcp-skip-in-flight"].map(Into::into).into();
        arguments.extend(path("--image-path", &options.images));
        arguments.extend(path("--work-path", &options.work));
        arguments.push(id.into());
        self.global_arguments().into_iter().chain(arguments).collect()
    }

    /// The program's name and version, such as `runc 1.3.6`.
    pub async fn version(&self) -> Result<String, Fault> {
        let output = self.command(["--version"]).output().await.map_err(|error| self.cannot_run(&error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().next().unwrap_or_default().replace(" version ", " ").trim().to_owned())
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.global_arguments()).args(arguments).kill_on_drop(true);
        command
    }

    fn global_arguments(&self) -> [OsString; 2] {
        ["--root".into(), self.root.as_os_str().to_owned()]
    }

    fn cannot_run(&self, error: &std::io::Error) -> Fault {
        Fault::new(Reason::RuntimeError, format!("{} can't be run: {error}", self.program.display()))
    }
}

use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use serde::Deserialize;
use transship_decision::{Failure, RunDir, StateDir};

/// What the wrapper is told by `transship-runtime.json` beside its own executable. Every key may be absent,
/// and so may the file.
#[derive(Debug)]
pub(super) struct Config {
    /// The real runtime.
    pub runtime: PathBuf,
    pub state: StateDir,
    pub run: RunDir,
    /// How long an agent that can't be reached is waited for: under the kubelet's two minutes, so that the
    /// reason is seen.
    pub agent_wait: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    runtime: PathBuf,
    state: PathBuf,
    run: PathBuf,
    agent_wait_seconds: u64,
}

impl Default for File {
    fn default() -> Self {
        Self {
            runtime: "/usr/sbin/runc".into(),
            state: StateDir::DEFAULT.into(),
            run: RunDir::DEFAULT.into(),
            agent_wait_seconds: 100,
        }
    }
}

impl Config {
    /// A file that can't be understood is an error for every command: to go on with another runtime than the
    /// one that was meant would be worse.
    pub fn load() -> Result<Self, Failure> {
        let broken = |what: String| Failure::new("ConfigBroken", what);
        let own = std::env::current_exe()
            .map_err(|e| broken(format!("the path of transship-runtime is not known: {e}")))?;
        let path = own.with_file_name("transship-runtime.json");
        let file = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| broken(format!("{}: {e}; mend or remove it", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => File::default(),
            Err(e) => return Err(broken(format!("{}: {e}", path.display()))),
        };
        Ok(Self {
            runtime: file.runtime,
            state: StateDir::new(file.state),
            run: RunDir::new(file.run),
            agent_wait: Duration::from_secs(file.agent_wait_seconds),
        })
    }
}

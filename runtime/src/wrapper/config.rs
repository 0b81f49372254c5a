use std::path::PathBuf;
use std::time::Duration;

use transship_decision::{Failure, RunDir, StateDir, WrapperSettings};

/// The wrapper's settings, ready for use.
#[derive(Debug)]
pub(super) struct Config {
    /// The real runtime.
    pub runtime: PathBuf,
    pub state: StateDir,
    pub run: RunDir,
    /// How long an agent that can't be reached is waited for.
    pub agent_wait: Duration,
}

impl Config {
    /// A file that can't be understood is an error for every command: to go on with another runtime than the
    /// one that was meant would be worse.
    pub fn load() -> Result<Self, Failure> {
        let broken = |what: String| Failure::new("ConfigBroken", what);
        let own = std::env::current_exe()
            .map_err(|e| broken(format!("the path of transship-runtime is not known: {e}")))?;
        let settings = WrapperSettings::of_program(&own).map_err(|e| broken(e.to_string()))?;
        Ok(Self {
            runtime: settings.runtime,
            state: StateDir::new(settings.state),
            run: RunDir::new(settings.run),
            agent_wait: Duration::from_secs(settings.agent_wait_seconds),
        })
    }
}

//! What the OCI wrapper is told, and what the agent must know of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{RunDir, StateDir};

/// The settings of `transship-runtime`: a JSON object in the file of its name beside its program. Every key may be
/// absent, and so may the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrapperSettings {
    /// The real runtime; by default `/usr/sbin/runc`.
    pub runtime: PathBuf,
    /// The state folder; by default [`StateDir::DEFAULT`].
    pub state: PathBuf,
    /// The run folder; by default [`RunDir::DEFAULT`].
    pub run: PathBuf,
    /// How long an agent that can't be reached is waited for; by default 100 s, under the kubelet's two minutes, so
    /// that the reason is seen.
    pub agent_wait_seconds: u64,
}

/// The settings can't be used. To go on with other ones than were meant would be worse than to stop.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and can't be read.
    #[error("{} can't be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It isn't what is expected.
    #[error("{} can't be understood: {source}; mend or remove it, for example {{\"runtime\": \"/usr/sbin/runc\"}}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Default for WrapperSettings {
    fn default() -> Self {
        Self {
            runtime: "/usr/sbin/runc".into(),
            state: StateDir::DEFAULT.into(),
            run: RunDir::DEFAULT.into(),
            agent_wait_seconds: 100,
        }
    }
}

impl WrapperSettings {
    /// The settings of the wrapper whose program is `program`.
    ///
    /// # Errors
    /// [`SettingsError`]; a file that isn't there is none.
    pub fn of_program(program: &Path) -> Result<Self, SettingsError> {
        let file = program.with_file_name("transship-runtime.json");
        match fs::read(&file) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| SettingsError::Json { file, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { file, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_has_its_default_and_what_is_unknown_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("transship-runtime");
        assert_eq!(WrapperSettings::of_program(&program).unwrap(), WrapperSettings::default());
        fs::write(folder.path().join("transship-runtime.json"), r#"{"runtime":"/x"}"#).unwrap();
        let settings = WrapperSettings::of_program(&program).unwrap();
        assert_eq!(settings, WrapperSettings { runtime: "/x".into(), ..WrapperSettings::default() });
        fs::write(folder.path().join("transship-runtime.json"), r#"{"runtme":"/x"}"#).unwrap();
        assert!(matches!(WrapperSettings::of_program(&program), Err(SettingsError::Json { .. })));
    }
}

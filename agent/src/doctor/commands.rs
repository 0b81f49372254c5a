//! Programs that are run or looked for.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

/// `criu check` takes a tenth of a second; what takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It can't be started.
    #[error("{program} can't be run: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It doesn't end.
    #[error("{program} {arguments} did not end within {} s", PATIENCE.as_secs())]
    Hangs {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: String,
    },
}

/// Runs a program and gives what it said; it is killed if it doesn't end.
pub async fn run(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Output, CommandError> {
    let program = program.as_ref();
    let name = || program.to_string_lossy().into_owned();
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    match tokio::time::timeout(PATIENCE, output).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(source)) => Err(CommandError::Start { program: name(), source }),
        Err(_) => Err(CommandError::Hangs { program: name(), arguments: arguments.join(" ") }),
    }
}

/// The program of that name that a shell would run.
pub fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
}

/// Whether that is a file that can be run.
pub fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find("sh").is_some_and(|path| is_executable(&path)));
        assert_eq!(find("no-such-program-anywhere"), None);
        assert!(!is_executable(Path::new("/etc/passwd")));
        assert!(!is_executable(Path::new("/")));
    }
}

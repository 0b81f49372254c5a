//! Where a lab keeps its things: one folder on a disk, shared by all labs of the machine.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{At, Result};

/// The folder that the environment variable `TRANSSHIP_LAB_DIR` names, else `/var/lib/transship-lab`.
///
/// ```text
/// root-<hash>/            the nodes' Debian, read-only for all labs
/// kubernetes-<hash>       the program that is all of Kubernetes
/// images/<hash>.tar       workload images
/// labs/<name>/            one lab: its record, and a folder per machine
/// *.lock                  held while the thing of that name is being made
/// ```
#[derive(Clone, Debug)]
pub struct Dirs(PathBuf);

impl Dirs {
    /// The folder that the environment asks for.
    pub fn from_env() -> Self {
        Dirs(
            std::env::var_os("TRANSSHIP_LAB_DIR")
                .map_or_else(|| "/var/lib/transship-lab".into(), PathBuf::from),
        )
    }

    /// The root file system of that recipe.
    pub fn root(&self, hash: &str) -> PathBuf {
        self.0.join(format!("root-{hash}"))
    }

    /// The program of that recipe that is all of Kubernetes.
    pub fn kubernetes(&self, hash: &str) -> PathBuf {
        self.0.join(format!("kubernetes-{hash}"))
    }

    /// Where image archives are cached.
    pub fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    /// Where all labs are.
    pub fn labs(&self) -> PathBuf {
        self.0.join("labs")
    }

    /// One lab.
    pub fn lab(&self, name: &str) -> PathBuf {
        self.labs().join(name)
    }
}

/// Waits for the lock of `path` and holds it as long as the returned file is open. The lock file stays.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("make", parent)?;
    }
    let file = File::create(&path).at("create", &path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => eprintln!("waiting for whoever holds {}", path.display()),
        Err(TryLockError::Error(error)) => return Err(error).at("lock", path),
    }
    file.lock().at("lock", &path)?;
    Ok(file)
}

/// Removes a folder and all in it, never crossing into another mounted file system.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let mut rm = std::process::Command::new("rm");
    crate::command::output(rm.args(["-rf", "--one-file-system", "--"]).arg(path)).map(drop)
}

/// Copies a folder with all in it, owners, modes, links and times kept.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut cp = std::process::Command::new("cp");
    crate::command::output(cp.args(["-a", "--"]).args([from, to])).map(drop)
}

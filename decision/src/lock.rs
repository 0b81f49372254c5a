//! One worker per migration and node: a restarted agent and `transship recover` never act at once.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use crate::{MigrationId, StateDir};

/// Why a migration could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else works on it, and will end it.
    #[error("migration {0} is being worked on by another process of this node")]
    Held(MigrationId),
    /// The lock's file could not be opened or locked.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The lock's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The right to work on one migration. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl StateDir {
    /// Takes the lock of a migration, without waiting for it.
    ///
    /// # Errors
    /// [`LockError::Held`] while another process has it.
    pub fn lock(&self, id: &MigrationId) -> Result<Lock, LockError> {
        self.flock(id, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock of a migration, waiting (blocking the thread) while another process has it.
    ///
    /// # Errors
    /// [`LockError::Disk`].
    pub fn wait_lock(&self, id: &MigrationId) -> Result<Lock, LockError> {
        self.flock(id, FlockOperation::LockExclusive)
    }

    fn flock(&self, id: &MigrationId, operation: FlockOperation) -> Result<Lock, LockError> {
        let path = self.lock_path(id);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LockError::Disk { path: path.clone(), source })?;
        match flock(&file, operation) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(id.clone())),
            Err(errno) => Err(LockError::Disk { path, source: errno.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let id: MigrationId = "m-1".parse().unwrap();
        state.begin(&id, b"{}").unwrap();
        let first = state.lock(&id).unwrap();
        assert!(matches!(state.lock(&id), Err(LockError::Held(_))));
        drop(first);
        state.lock(&id).unwrap();
    }
}

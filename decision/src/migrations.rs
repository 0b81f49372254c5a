//! The life of a migration's folder: begun with a plan, done, forgotten.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::files::make_folder;
use crate::{Files, MigrationId, StateDir};

/// Why a migration's folder could not be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationsError {
    /// A migration of this name is known here already.
    #[error("migration {0} exists already: names are never used again")]
    Exists(MigrationId),
    /// It isn't done, so what lies in its folder is still needed.
    #[error("migration {0} is not done: its record and its plan are needed until it is")]
    NotDone(MigrationId),
    /// The disk failed.
    #[error("{}: {source}; look at the disk under the state folder", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

impl StateDir {
    /// Makes the folders that are missing, and of `id` its own with `plan` (the agent's own text, at most
    /// 1 MiB) in it, durably. Nothing of a migration may be done before.
    ///
    /// # Errors
    /// [`MigrationsError::Exists`] for a name that has been used.
    pub fn begin(&self, id: &MigrationId, plan: &[u8]) -> Result<(), MigrationsError> {
        fs::create_dir_all(self.path()).map_err(disk(self.path()))?;
        for folder in [self.migrations_path(), self.migration_path(id)] {
            make_folder(&folder).map_err(disk(&folder))?;
        }
        match self.publish(id, self.plan_path(id), plan)? {
            crate::Linked::New => Ok(()),
            crate::Linked::Taken => Err(MigrationsError::Exists(id.clone())),
        }
    }

    /// The plan that `id` was begun with; `None` for one that isn't known here.
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn plan(&self, id: &MigrationId) -> Result<Option<Vec<u8>>, MigrationsError> {
        let path = self.plan_path(id);
        self.files.read(&path).map_err(disk(&path))
    }

    /// Keeps how `id` has ended (the agent's own text, at most 1 MiB), durably, for whoever asks until it is forgotten.
    /// Returns what stands: the first that was told.
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn conclude(&self, id: &MigrationId, outcome: &[u8]) -> Result<Vec<u8>, MigrationsError> {
        match self.publish(id, self.outcome_path(id), outcome)? {
            crate::Linked::New => Ok(outcome.to_vec()),
            crate::Linked::Taken => Ok(self.outcome(id)?.unwrap_or_else(|| outcome.to_vec())),
        }
    }

    /// How `id` has ended, if that was kept.
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn outcome(&self, id: &MigrationId) -> Result<Option<Vec<u8>>, MigrationsError> {
        let path = self.outcome_path(id);
        self.files.read(&path).map_err(disk(&path))
    }

    /// Marks `id` as done, which ends its watchdog. Its record stays readable until [`StateDir::forget`].
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn mark_done(&self, id: &MigrationId) -> Result<(), MigrationsError> {
        self.publish(id, self.done_path(id), b"").map(drop)
    }

    /// All migrations known here, done or not, in order of their names.
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn migrations(&self) -> Result<Vec<MigrationId>, MigrationsError> {
        let path = self.migrations_path();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(MigrationsError::Disk { path, source }),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(disk(&path))?;
            // What has no usable name was not made here.
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Those that aren't done: what an agent takes up when it starts.
    ///
    /// # Errors
    /// [`MigrationsError::Disk`].
    pub fn unfinished(&self) -> Result<Vec<MigrationId>, MigrationsError> {
        let mut ids = self.migrations()?;
        ids.retain(|id| !self.done_path(id).exists());
        Ok(ids)
    }

    /// Removes the folder of a migration that is done.
    ///
    /// # Errors
    /// [`MigrationsError::NotDone`], [`MigrationsError::Disk`].
    pub fn forget(&self, id: &MigrationId) -> Result<(), MigrationsError> {
        if !self.done_path(id).exists() {
            return Err(MigrationsError::NotDone(id.clone()));
        }
        let path = self.migration_path(id);
        // `done` goes last, so that a removal that was cut short can be taken up again.
        for entry in fs::read_dir(&path).map_err(disk(&path))? {
            let file = entry.map_err(disk(&path))?.path();
            if file != self.done_path(id) {
                fs::remove_file(&file).map_err(disk(&file))?;
            }
        }
        fs::remove_dir_all(&path).map_err(disk(&path))
    }

    fn publish(&self, id: &MigrationId, to: PathBuf, bytes: &[u8]) -> Result<crate::Linked, MigrationsError> {
        let folder = self.migration_path(id);
        let staged = self.files.stage(&folder, bytes).map_err(disk(&folder))?;
        let linked = self.files.link(&staged, &to).map_err(disk(&to));
        self.files.remove(&staged).map_err(disk(&staged))?;
        linked
    }
}

fn disk(path: &std::path::Path) -> impl Fn(io::Error) -> MigrationsError {
    let path = path.to_owned();
    move |source| MigrationsError::Disk { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_used_once_and_forgotten_only_when_done() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("made/when/needed"));
        assert!(state.unfinished().unwrap().is_empty());
        let id: MigrationId = "m-1".parse().unwrap();
        state.begin(&id, b"plan").unwrap();
        assert!(matches!(state.begin(&id, b"other"), Err(MigrationsError::Exists(_))));
        assert_eq!(state.plan(&id).unwrap().unwrap(), b"plan");
        assert_eq!(state.unfinished().unwrap(), std::slice::from_ref(&id));
        assert_eq!(state.outcome(&id).unwrap(), None);
        assert_eq!(state.conclude(&id, b"first").unwrap(), b"first");
        assert_eq!(state.conclude(&id, b"second").unwrap(), b"first");
        assert_eq!(state.outcome(&id).unwrap().unwrap(), b"first");
        assert!(matches!(state.forget(&id), Err(MigrationsError::NotDone(_))));
        state.mark_done(&id).unwrap();
        state.mark_done(&id).unwrap();
        assert!(state.unfinished().unwrap().is_empty());
        state.forget(&id).unwrap();
        assert!(state.migrations().unwrap().is_empty());
    }
}

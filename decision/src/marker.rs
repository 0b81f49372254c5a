//! The markers that a runtime wrapper obeys: fences on the source, expectations on the target.

use std::io;
use std::path::PathBuf;

use crate::{DecideError, Files, InvalidId, Linked, MigrationId, PodUid, StateDir, Verdict};

/// Which marker of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// On the source: no container of the Pod is created while the migration is undecided or released.
    Fence,
    /// On the target: the Pod's containers are restored by the migration and never start empty.
    ///
    /// Lowering it is the point after which a `create` is an ordinary one, so it is lowered when every
    /// container is held and `released` is known, just *before* they are let run: should the machine stop
    /// between the two, their state isn't taken from the images a second time.
    Expected,
}

/// Why a marker could not be raised, lowered or read.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// Another migration's marker stands for this Pod.
    #[error("Pod {pod} is already marked by migration {by}: wait for that one to end, or cancel it")]
    Taken {
        /// The Pod.
        pod: PodUid,
        /// The migration whose marker stands.
        by: MigrationId,
    },
    /// The disk failed.
    #[error("marker {}: {source}; look at the disk under the state folder", path.display())]
    Disk {
        /// The marker's file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The marker doesn't hold a migration's name.
    #[error("marker {} is damaged: {source}; it stands until a person has looked at it", path.display())]
    Damaged {
        /// The marker's file.
        path: PathBuf,
        /// What is wrong with its content.
        source: InvalidId,
    },
}

/// What the fence says to a wrapper that is about to create a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// No fence stands, or its migration was kept.
    Open,
    /// The fence's migration is undecided (`None`) or released: nothing of this Pod may be created here.
    Fenced {
        /// The migration that raised it.
        migration: MigrationId,
        /// Its verdict, if it has one.
        verdict: Option<Verdict>,
    },
}

impl<F: Files> StateDir<F> {
    fn marker_path(&self, marker: Marker, pod: &PodUid) -> PathBuf {
        match marker {
            Marker::Fence => self.fence_path(pod),
            Marker::Expected => self.expected_path(pod),
        }
    }

    /// Raises `marker` for `pod` in the name of `migration`, durably. Raising it again is fine.
    ///
    /// # Errors
    /// [`MarkerError::Taken`] where another migration's stands. The folder of `migration` must be there.
    pub fn raise(&self, marker: Marker, pod: &PodUid, migration: &MigrationId) -> Result<(), MarkerError> {
        let path = self.marker_path(marker, pod);
        let disk = |source| MarkerError::Disk { path: path.clone(), source };
        let staged = self
            .files
            .stage(&self.migration_path(migration), format!("{migration}\n").as_bytes())
            .map_err(disk)?;
        let linked = self.files.link(&staged, &path).map_err(disk);
        self.files.remove(&staged).map_err(disk)?;
        match linked? {
            Linked::New => Ok(()),
            Linked::Taken => match self.marked(marker, pod)? {
                Some(by) if by != *migration => Err(MarkerError::Taken { pod: pod.clone(), by }),
                Some(_) => Ok(()),
                None => {
                    Err(disk(io::Error::new(io::ErrorKind::NotFound, "lowered while it was being raised")))
                }
            },
        }
    }

    /// Lowers `marker` for `pod`, durably, if it is `migration`'s; another's is left alone.
    ///
    /// # Errors
    /// As [`StateDir::marked`].
    pub fn lower(&self, marker: Marker, pod: &PodUid, migration: &MigrationId) -> Result<(), MarkerError> {
        if self.marked(marker, pod)?.as_ref() != Some(migration) {
            return Ok(());
        }
        let path = self.marker_path(marker, pod);
        self.files.remove(&path).map_err(|source| MarkerError::Disk { path, source })
    }

    /// The migration whose `marker` stands for `pod`.
    ///
    /// # Errors
    /// [`MarkerError::Disk`] and [`MarkerError::Damaged`]: it can't be told; take it as standing.
    pub fn marked(&self, marker: Marker, pod: &PodUid) -> Result<Option<MigrationId>, MarkerError> {
        let path = self.marker_path(marker, pod);
        match self.files.read(&path) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => match String::from_utf8_lossy(&bytes).trim_end().parse() {
                Ok(migration) => Ok(Some(migration)),
                Err(source) => Err(MarkerError::Damaged { path, source }),
            },
            Err(source) => Err(MarkerError::Disk { path, source }),
        }
    }

    /// Whether a container of `pod` may be created on this node as far as fences go.
    ///
    /// # Errors
    /// It can't be told whether the fence stands or how its migration was decided: don't create.
    pub fn admission(&self, pod: &PodUid) -> Result<Admission, DecideError> {
        let Some(migration) = self.marked(Marker::Fence, pod)? else { return Ok(Admission::Open) };
        match self.standing(&migration)?.map(|signed| signed.record().verdict()) {
            Some(Verdict::Kept) => Ok(Admission::Open),
            verdict => Ok(Admission::Fenced { migration, verdict }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{By, Failure, Record, Root, SignedRecord, UnixMillis};

    fn state() -> (tempfile::TempDir, StateDir, MigrationId, PodUid) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let id: MigrationId = "m-1".parse().unwrap();
        state.begin(&id, b"{}").unwrap();
        (folder, state, id, "pod-1".parse().unwrap())
    }

    fn kept(id: &MigrationId, pod: &PodUid) -> SignedRecord {
        let why = Failure::new("Cancelled", "by a person");
        SignedRecord::unsigned(Record::kept(id.clone(), pod.clone(), why, By::Agent, UnixMillis(2)))
    }

    #[test]
    fn a_fence_holds_until_its_migration_is_kept() {
        let (_folder, state, id, pod) = state();
        assert_eq!(state.admission(&pod).unwrap(), Admission::Open);
        state.raise(Marker::Fence, &pod, &id).unwrap();
        state.raise(Marker::Fence, &pod, &id).unwrap();
        let undecided = Admission::Fenced { migration: id.clone(), verdict: None };
        assert_eq!(state.admission(&pod).unwrap(), undecided);
        state.decide(kept(&id, &pod)).unwrap();
        assert_eq!(state.admission(&pod).unwrap(), Admission::Open);
    }

    #[test]
    fn a_fence_holds_when_released_and_when_unreadable() {
        let (_folder, state, id, pod) = state();
        state.raise(Marker::Fence, &pod, &id).unwrap();
        let record = Record::released(id.clone(), pod.clone(), Root([0; 32]), By::Agent, UnixMillis(1));
        state.decide(SignedRecord::unsigned(record)).unwrap();
        let released = Admission::Fenced { migration: id.clone(), verdict: Some(Verdict::Released) };
        assert_eq!(state.admission(&pod).unwrap(), released);
        std::fs::write(state.record_path(&id), b"").unwrap();
        assert!(state.admission(&pod).is_err());
        std::fs::write(state.fence_path(&pod), b"../../x").unwrap();
        assert!(state.admission(&pod).is_err());
    }

    #[test]
    fn a_marker_belongs_to_the_migration_that_raised_it() {
        let (_folder, state, id, pod) = state();
        let other: MigrationId = "m-2".parse().unwrap();
        state.begin(&other, b"{}").unwrap();
        state.raise(Marker::Expected, &pod, &id).unwrap();
        let refused = state.raise(Marker::Expected, &pod, &other);
        assert!(matches!(refused, Err(MarkerError::Taken { by, .. }) if by == id));
        state.lower(Marker::Expected, &pod, &other).unwrap();
        assert_eq!(state.marked(Marker::Expected, &pod).unwrap(), Some(id.clone()));
        state.lower(Marker::Expected, &pod, &id).unwrap();
        assert_eq!(state.marked(Marker::Expected, &pod).unwrap(), None);
    }
}

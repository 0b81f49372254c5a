//! Deciding: the first record wins, for ever.

use std::io;
use std::path::PathBuf;

use crate::{
    Files, Linked, MalformedRecord, Marker, MarkerError, MigrationId, SignedRecord, StateDir, Verdict,
};

/// Why nothing could be decided, or not be told what is. The same call may be made again.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The disk failed, is full, or the migration's folder is gone.
    #[error(
        "the decision of migration {migration} could not be made durable: {source}; look at the disk under the state folder"
    )]
    Disk {
        /// The migration that stays undecided, or whose decision isn't known to be durable.
        migration: MigrationId,
        /// What the disk said.
        source: io::Error,
    },
    /// A record is there and can't be read. It stands, whatever it says: a person must look.
    #[error(
        "the record of migration {migration} is damaged ({source}); compare it with the one that the other node was given"
    )]
    Damaged {
        /// The migration whose record it is.
        migration: MigrationId,
        /// What is wrong with it.
        source: MalformedRecord,
    },
    /// `released` was asked for with no fence up: the kubelet could start a second copy beside the target.
    #[error("migration {0} can't be released: no fence of it stands for the source's Pod")]
    NoFence(MigrationId),
    /// Whether the fence stands can't be told.
    #[error(transparent)]
    Fence(#[from] MarkerError),
}

/// A record that lies ready on the disk and decides nothing yet.
///
/// Staging takes the space and the time of the write beforehand: [`Staged::decide`] then needs no room on a
/// full disk. That is what the watchdog does. Dropped undecided, it leaves nothing.
#[derive(Debug)]
pub struct Staged<'a, F: Files> {
    state: &'a StateDir<F>,
    record: SignedRecord,
    staged: PathBuf,
}

impl<F: Files> StateDir<F> {
    /// Writes `record` next to where it would decide.
    ///
    /// # Errors
    /// [`DecideError::Disk`]; the migration's folder must have been made by [`StateDir::begin`].
    pub fn stage(&self, record: SignedRecord) -> Result<Staged<'_, F>, DecideError> {
        let folder = self.migration_path(record.record().migration());
        let staged = self.files.stage(&folder, &record.encode()).map_err(disk(&record))?;
        Ok(Staged { state: self, record, staged })
    }

    /// Decides a migration, or finds out how it is decided: returns the record that stands, which may say
    /// the opposite of `record`. Whatever is returned is durable.
    ///
    /// # Errors
    /// Nothing is known to be decided then, and nothing must be done that needs a decision; try again.
    pub fn decide(&self, record: SignedRecord) -> Result<SignedRecord, DecideError> {
        self.stage(record)?.decide()
    }

    /// The record that stands, if one does. It may not be durable yet: before acting on it in a way that a
    /// loss of power must not undo, call [`StateDir::decide`].
    ///
    /// # Errors
    /// [`DecideError::Disk`] or [`DecideError::Damaged`].
    pub fn standing(&self, migration: &MigrationId) -> Result<Option<SignedRecord>, DecideError> {
        let migration = migration.clone();
        let bytes = match self.files.read(&self.record_path(&migration)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(source) => return Err(DecideError::Disk { migration, source }),
        };
        match SignedRecord::decode(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(source) => Err(DecideError::Damaged { migration, source }),
        }
    }

    /// Keeps, on the target, a copy of the record that was carried there and verified by the caller. Returns
    /// the copy that stands: the first that came.
    ///
    /// # Errors
    /// As [`StateDir::decide`], but for the fence, which only the source has.
    pub fn adopt(&self, record: SignedRecord) -> Result<SignedRecord, DecideError> {
        self.stage(record)?.link()
    }
}

impl<F: Files> Staged<'_, F> {
    /// Decides, as [`StateDir::decide`].
    ///
    /// # Errors
    /// As [`StateDir::decide`].
    pub fn decide(&self) -> Result<SignedRecord, DecideError> {
        let record = self.record.record();
        if record.verdict() == Verdict::Released {
            let fence = self.state.marked(Marker::Fence, record.pod_uid())?;
            if fence.as_ref() != Some(record.migration()) {
                return Err(DecideError::NoFence(record.migration().clone()));
            }
        }
        self.link()
    }

    fn link(&self) -> Result<SignedRecord, DecideError> {
        let migration = self.record.record().migration();
        let to = self.state.record_path(migration);
        match self.state.files.link(&self.staged, &to).map_err(disk(&self.record))? {
            Linked::New => Ok(self.record.clone()),
            Linked::Taken => self.state.standing(migration)?.ok_or_else(|| {
                disk(&self.record)(io::Error::new(io::ErrorKind::NotFound, "the record vanished"))
            }),
        }
    }
}

impl<F: Files> Drop for Staged<'_, F> {
    fn drop(&mut self) {
        // What can't be removed lies in the migration's folder and goes with it.
        drop(self.state.files.remove(&self.staged));
    }
}

fn disk(record: &SignedRecord) -> impl Fn(io::Error) -> DecideError {
    let migration = record.record().migration().clone();
    move |source| DecideError::Disk { migration: migration.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::{By, Failure, PodUid, Record, Root, UnixMillis};

    fn begin(state: &StateDir) -> (MigrationId, PodUid) {
        let id: MigrationId = "m-1".parse().unwrap();
        let pod: PodUid = "pod-1".parse().unwrap();
        state.begin(&id, b"{}").unwrap();
        (id, pod)
    }

    fn released(id: &MigrationId, pod: &PodUid) -> SignedRecord {
        let (root, at) = (Root([1; 32]), UnixMillis(1));
        SignedRecord::unsigned(Record::released(id.clone(), pod.clone(), root, By::Agent, at))
    }

    fn kept(id: &MigrationId, pod: &PodUid) -> SignedRecord {
        let why = Failure::new("Cancelled", "by a person");
        SignedRecord::unsigned(Record::kept(id.clone(), pod.clone(), why, By::Watchdog, UnixMillis(2)))
    }

    #[test]
    fn the_first_record_stands_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let (id, pod) = begin(&state);
        state.raise(Marker::Fence, &pod, &id).unwrap();
        assert_eq!(state.standing(&id).unwrap(), None);
        assert_eq!(state.decide(kept(&id, &pod)).unwrap(), kept(&id, &pod));
        assert_eq!(state.decide(released(&id, &pod)).unwrap(), kept(&id, &pod));
        assert_eq!(state.standing(&id).unwrap(), Some(kept(&id, &pod)));
    }

    #[test]
    fn nothing_is_released_without_its_fence() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let (id, pod) = begin(&state);
        assert!(matches!(state.decide(released(&id, &pod)), Err(DecideError::NoFence(_))));
        let other = "m-other".parse().unwrap();
        state.begin(&other, b"{}").unwrap();
        state.raise(Marker::Fence, &pod, &other).unwrap();
        assert!(matches!(state.decide(released(&id, &pod)), Err(DecideError::NoFence(_))));
        assert_eq!(state.standing(&id).unwrap(), None);
    }

    #[test]
    fn what_is_staged_decides_nothing_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let (id, pod) = begin(&state);
        let staged = state.stage(kept(&id, &pod)).unwrap();
        assert_eq!(state.standing(&id).unwrap(), None);
        drop(staged);
        let left: Vec<_> = std::fs::read_dir(state.migration_path(&id)).unwrap().collect();
        assert_eq!(left.len(), 1, "only the plan: {left:?}");
    }

    #[test]
    fn a_damaged_record_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        let (id, pod) = begin(&state);
        std::fs::write(state.record_path(&id), b"garbage").unwrap();
        assert!(matches!(state.decide(kept(&id, &pod)), Err(DecideError::Damaged { .. })));
        assert_eq!(std::fs::read(state.record_path(&id)).unwrap(), b"garbage");
    }

    #[test]
    fn of_many_at_once_all_hear_the_same() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let state = StateDir::new(folder.path());
            let (id, pod) = begin(&state);
            state.raise(Marker::Fence, &pod, &id).unwrap();
            let gate = Barrier::new(8);
            let heard: Vec<SignedRecord> = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8)
                    .map(|n| {
                        let (state, gate) = (&state, &gate);
                        let record = if n % 2 == 0 { released(&id, &pod) } else { kept(&id, &pod) };
                        scope.spawn(move || {
                            gate.wait();
                            state.decide(record).unwrap()
                        })
                    })
                    .collect();
                all.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(heard.iter().all(|record| *record == heard[0]));
        }
    }
}

//! What a receiver holds from an earlier try, so that it isn't sent again.

use std::collections::BTreeMap;

use blake3::Hash;

use super::frame::{Answer, MAX_HELD_PER_FRAME};
use super::path::TreePath;

/// Most chunks that a sender lets itself be told of: 128 GiB, 17 MiB of memory.
const MAX_CHUNKS: usize = 1 << 19;

/// Chunks by entry and index, with their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldChunks {
    entries: BTreeMap<TreePath, BTreeMap<u32, Hash>>,
    chunks: usize,
}

/// The other end says that it holds more than it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver says that it holds more than {MAX_CHUNKS} chunks, or one beyond the last index")]
pub struct TooManyHeld;

impl HeldChunks {
    /// The hash of a chunk, if it is held.
    pub fn get(&self, path: &TreePath, index: u32) -> Option<Hash> {
        self.entries.get(path)?.get(&index).copied()
    }

    /// How many chunks are held.
    pub fn len(&self) -> usize {
        self.chunks
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.chunks == 0
    }

    /// Every path under which something may lie, held or half written.
    pub fn paths(&self) -> impl Iterator<Item = &TreePath> {
        self.entries.keys()
    }

    /// Notes that something may lie under `path`.
    pub fn touch(&mut self, path: &TreePath) {
        if !self.entries.contains_key(path) {
            self.entries.insert(path.clone(), BTreeMap::new());
        }
    }

    /// Notes a chunk; the latest hash of a chunk counts.
    pub fn insert(&mut self, path: &TreePath, index: u32, hash: Hash) {
        let entry = match self.entries.get_mut(path) {
            Some(entry) => entry,
            None => self.entries.entry(path.clone()).or_default(),
        };
        if entry.insert(index, hash).is_none() {
            self.chunks += 1;
        }
    }

    /// Forgets a chunk.
    pub fn remove(&mut self, path: &TreePath, index: u32) {
        if self.entries.get_mut(path).is_some_and(|entry| entry.remove(&index).is_some()) {
            self.chunks -= 1;
        }
    }

    /// Notes a run that the other end told of.
    pub fn insert_run(&mut self, path: &TreePath, first: u32, hashes: &[Hash]) -> Result<(), TooManyHeld> {
        let last = u32::try_from(hashes.len()).ok().and_then(|count| first.checked_add(count));
        let (Some(end), true) = (last, self.chunks + hashes.len() <= MAX_CHUNKS) else {
            return Err(TooManyHeld);
        };
        for (index, hash) in (first..end).zip(hashes) {
            self.insert(path, index, *hash);
        }
        Ok(())
    }

    /// The frames that tell the other end, run by run.
    pub fn frames(&self) -> impl Iterator<Item = Answer> {
        self.entries.iter().flat_map(|(path, chunks)| {
            let mut chunks = chunks.iter().peekable();
            std::iter::from_fn(move || {
                let (&first, &hash) = chunks.next()?;
                let mut hashes = vec![hash];
                let mut next = first.checked_add(1);
                while hashes.len() < MAX_HELD_PER_FRAME
                    && let Some((&index, &hash)) = chunks.next_if(|(index, _)| Some(**index) == next)
                {
                    hashes.push(hash);
                    next = index.checked_add(1);
                }
                Some(Answer::Held { path: path.clone(), first, hashes })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_told_is_what_is_held(chunks in prop::collection::btree_set((0..3u8, prop_oneof![0..40u32, 100..3000u32, u32::MAX - 3..u32::MAX]), 0..300)) {
            let mut held = HeldChunks::default();
            for (file, index) in &chunks {
                held.insert(&TreePath::new(&format!("f{file}")).unwrap(), *index, blake3::hash(&index.to_le_bytes()));
            }
            prop_assert_eq!(held.len(), chunks.len());
            let mut told = HeldChunks::default();
            for frame in held.frames() {
                let Answer::Held { path, first, hashes } = frame else { panic!("{frame:?}") };
                prop_assert!((1..=MAX_HELD_PER_FRAME).contains(&hashes.len()));
                told.insert_run(&path, first, &hashes).unwrap();
            }
            prop_assert_eq!(told, held);
        }
    }

    #[test]
    fn a_receiver_that_holds_the_world_is_refused() {
        let path = TreePath::new("a").unwrap();
        let hashes = vec![blake3::hash(b""); 1024];
        let mut held = HeldChunks::default();
        assert_eq!(held.insert_run(&path, u32::MAX - 3, &hashes), Err(TooManyHeld));
        for run in 0..512 {
            held.insert_run(&path, run * 1024, &hashes).unwrap();
        }
        assert_eq!(held.insert_run(&path, 512 * 1024, &hashes), Err(TooManyHeld));
    }
}

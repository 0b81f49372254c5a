//! The sender's side of a session: what it has said, so that it says nothing twice and seals what it sent.

use std::collections::HashSet;

use blake3::Hash;

use super::bytes::TransferBytes;
use super::chunk::{self, ChunkHeader, EntryId};
use super::frame::{Lane, Seal};
use super::held::HeldChunks;
use super::path::TreePath;
use super::tree::{self, Entry, EntryKind};

/// Keeps the books of one connection.
#[derive(Debug)]
pub struct SendSession {
    held: HeldChunks,
    entries: Vec<Outgoing>,
    paths: HashSet<TreePath>,
    bytes: TransferBytes,
}

#[derive(Debug)]
struct Outgoing {
    path: TreePath,
    kind: EntryKind,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// The hashes of the chunks so far; `None` where one is still being worked on.
    Growing(Vec<Option<Hash>>),
    Finished {
        size: u64,
        hash: Hash,
    },
}

impl SendSession {
    /// A session with a receiver that holds `held` already.
    pub fn new(held: HeldChunks) -> Self {
        Self { held, entries: Vec::new(), paths: HashSet::new(), bytes: TransferBytes::default() }
    }

    /// What has been sent so far.
    pub fn bytes(&self) -> TransferBytes {
        self.bytes
    }

    /// Begins an entry: its number, and the frame that says so.
    pub fn announce(&mut self, path: TreePath, kind: EntryKind) -> Result<(EntryId, Lane), Misuse> {
        let entry = u32::try_from(self.entries.len()).map(EntryId).map_err(|_| Misuse::TooManyEntries)?;
        if !self.paths.insert(path.clone()) {
            return Err(Misuse::Duplicate { path });
        }
        self.entries.push(Outgoing { path: path.clone(), kind, content: Content::Growing(Vec::new()) });
        Ok((entry, Lane::Announce { entry, path, kind }))
    }

    /// Whether the receiver holds this chunk with this hash, so that its bytes needn't be sent.
    pub fn is_held(&self, entry: EntryId, index: u32, hash: Hash) -> bool {
        // A first try holds nothing, and most tries are first tries.
        !self.held.is_empty()
            && self.entries.get(entry.0 as usize).and_then(|entry| self.held.get(&entry.path, index))
                == Some(hash)
    }

    /// Notes a chunk that goes out.
    pub fn chunk(&mut self, header: &ChunkHeader) {
        let content = self.entries.get_mut(header.entry.0 as usize).map(|entry| &mut entry.content);
        if let Some(Content::Growing(hashes)) = content {
            let place = header.index as usize;
            if hashes.len() <= place {
                hashes.resize(place + 1, None);
            }
            if let Some(slot) = hashes.get_mut(place) {
                *slot = Some(header.hash);
            }
            self.bytes.count(header);
        }
    }

    /// Ends an entry of `size` bytes, all of whose chunks went out: the frame that says so.
    pub fn finish(&mut self, id: EntryId, size: u64) -> Result<Lane, Misuse> {
        let entry = self.entries.get_mut(id.0 as usize).ok_or(Misuse::TooManyEntries)?;
        let unfinished = || Misuse::Unfinished { path: entry.path.clone() };
        let Content::Growing(hashes) = &entry.content else { return Err(unfinished()) };
        let known: Vec<&Hash> = hashes.iter().flatten().collect();
        if chunk::count(size).map(|count| count as usize) != Some(known.len()) || known.len() != hashes.len()
        {
            return Err(unfinished());
        }
        let hash = tree::entry_hash(size, known);
        entry.content = Content::Finished { size, hash };
        Ok(Lane::Finish { entry: id, size, hash })
    }

    /// Seals the tree; every entry has to be finished.
    pub fn seal(&self, lanes: u16) -> Result<Seal, Misuse> {
        let mut entries = Vec::with_capacity(self.entries.len());
        for Outgoing { path, kind, content } in &self.entries {
            let Content::Finished { size, hash } = *content else {
                return Err(Misuse::Unfinished { path: path.clone() });
            };
            entries.push(Entry { path: path.clone(), kind: *kind, size, hash });
        }
        let bytes = entries.iter().map(|entry| entry.size).sum();
        let count = u32::try_from(entries.len()).map_err(|_| Misuse::TooManyEntries)?;
        Ok(Seal { root: tree::root(&mut entries), entries: count, bytes, lanes })
    }
}

/// The application asked for what makes no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// A path was given twice.
    #[error("entry {path} was given twice")]
    Duplicate {
        /// The path.
        path: TreePath,
    },
    /// An entry was begun and not finished.
    #[error("entry {path} was begun but not all of it was sent: finish it, or drop the sender")]
    Unfinished {
        /// The path.
        path: TreePath,
    },
    /// More entries than there are numbers.
    #[error("the tree has more entries than there are numbers for them")]
    TooManyEntries,
}

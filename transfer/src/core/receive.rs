//! The receiver's side of a session: what has been announced, what lies in its place, whether it is what was sealed.

use std::collections::{HashMap, HashSet};

use blake3::Hash;

use super::bytes::TransferBytes;
use super::chunk::{self, CHUNK_BYTES, ChunkHeader, Encoding, EntryId};
use super::close::CloseCode;
use super::frame::Seal;
use super::held::HeldChunks;
use super::limits::Limits;
use super::path::TreePath;
use super::tree::{self, Entry, EntryKind};

/// Keeps the books of one connection.
///
/// A chunk goes through three steps: [`admit`](Self::admit) (its frame is allowed here), then the caller verifies and
/// places its bytes, then [`placed`](Self::placed). Nothing here has seen a byte of content: a chunk whose bytes don't
/// match its hash never gets to `placed`, and the caller ends the session.
#[derive(Debug)]
pub struct ReceiveSession {
    ground: Ground,
    limits: Limits,
    held: HeldChunks,
    entries: HashMap<EntryId, Incoming>,
    paths: HashSet<TreePath>,
    /// Slots of all entries together: what `Limits` bounds.
    slots: u64,
    in_hand: u64,
    bytes: TransferBytes,
    /// Bytes admitted so far; never more than the limit.
    admitted: u64,
}

/// How many slots an entry's list grows by: those of 256 MiB.
const SLOTS_AT_ONCE: usize = 1024;

/// What may lie where nothing is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// Nothing: the directory was empty.
    Fresh,
    /// Anything: an earlier try may have been cut off in the middle of a chunk.
    Used,
}

#[derive(Debug)]
struct Incoming {
    path: TreePath,
    kind: EntryKind,
    chunks: Vec<Slot>,
    /// The one chunk that isn't whole, and its length. It has to turn out to be the last.
    tail: Option<(u32, u32)>,
    finished: Option<(u64, Hash)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    InHand(Hash),
    Placed(Hash),
}

/// What the caller has to do with an admitted chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Verify its bytes, put them into the file at [`ChunkHeader::offset`], then call [`ReceiveSession::placed`].
    Place(TreePath),
    /// Verify that zeros have this hash and see that none but zeros lie there, then call [`ReceiveSession::placed`].
    Clear(TreePath),
    /// Verify that zeros have this hash, then call [`ReceiveSession::placed`]: nothing was ever written there.
    LeaveHole(TreePath),
    /// Nothing: it lies there, verified, since an earlier try.
    AlreadyHeld,
}

/// A tree that is all there and is what its sender sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The root, computed from what was placed.
    pub root: Hash,
    /// All entries, sorted by path.
    pub entries: Vec<Entry>,
    /// Where an earlier try left something that isn't of this tree: it has to go.
    pub leftovers: Vec<TreePath>,
}

impl ReceiveSession {
    /// A session that begins with an empty directory.
    pub fn new(limits: Limits) -> Self {
        Self::on(Ground::Fresh, limits, HeldChunks::default())
    }

    /// A session that goes on with the directory of an earlier one, where `held` lies in its place.
    pub fn resume(limits: Limits, held: HeldChunks) -> Self {
        Self::on(Ground::Used, limits, held)
    }

    fn on(ground: Ground, limits: Limits, held: HeldChunks) -> Self {
        Self {
            ground,
            limits,
            held,
            entries: HashMap::new(),
            paths: HashSet::new(),
            slots: 0,
            in_hand: 0,
            bytes: TransferBytes::default(),
            admitted: 0,
        }
    }

    /// What the sender is let do.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What lay in its place when the session began: the sender is told.
    pub fn held(&self) -> &HeldChunks {
        &self.held
    }

    /// What has come so far.
    pub fn bytes(&self) -> TransferBytes {
        self.bytes
    }

    /// Chunks that were admitted and aren't placed yet.
    pub fn in_hand(&self) -> u64 {
        self.in_hand
    }

    /// The sender announces an entry.
    pub fn announce(&mut self, id: EntryId, path: TreePath, kind: EntryKind) -> Result<(), Violation> {
        if self.entries.len() as u64 >= u64::from(self.limits.max_entries) {
            return Err(Violation::TooManyEntries { limit: self.limits.max_entries });
        }
        if self.entries.contains_key(&id) {
            return Err(Violation::EntryTwice { entry: id });
        }
        if !self.paths.insert(path.clone()) {
            return Err(Violation::PathTwice { path });
        }
        self.entries.insert(id, Incoming { path, kind, chunks: Vec::new(), tail: None, finished: None });
        Ok(())
    }

    /// The sender sends a chunk.
    pub fn admit(&mut self, header: &ChunkHeader) -> Result<Admitted, Violation> {
        let &ChunkHeader { entry: id, index, length, encoding, hash } = header;
        let entry = self.entries.get_mut(&id).ok_or(Violation::NotAnnounced { entry: id })?;
        if entry.finished.is_some() {
            return Err(Violation::AfterFinish { path: entry.path.clone() });
        }

        let too_many = Violation::TooManyBytes { limit: self.limits.max_bytes };
        let place = index as usize;
        let missing = (place + 1).saturating_sub(entry.chunks.len());
        if self.slots + missing as u64 > self.limits.max_chunks()
            || self.admitted + u64::from(length) > self.limits.max_bytes
        {
            return Err(too_many);
        }
        if missing > 0 {
            // Not doubled: what a hostile sender makes this grow to is what the limits say, not twice as much.
            if place >= entry.chunks.capacity() {
                entry.chunks.reserve_exact(missing + SLOTS_AT_ONCE);
            }
            entry.chunks.resize(place + 1, Slot::Missing);
            self.slots += missing as u64;
        }

        let Some(slot @ Slot::Missing) = entry.chunks.get_mut(place) else {
            return Err(Violation::ChunkTwice { path: entry.path.clone(), index });
        };
        if length < CHUNK_BYTES as u32 && entry.tail.replace((index, length)).is_some() {
            return Err(Violation::ShortTwice { path: entry.path.clone(), index });
        }

        let held = self.held.get(&entry.path, index);
        let admitted = match encoding {
            Encoding::Held if held == Some(hash) => Admitted::AlreadyHeld,
            Encoding::Held => return Err(Violation::NotHeld { path: entry.path.clone(), index }),
            Encoding::Zero if self.ground == Ground::Fresh => Admitted::LeaveHole(entry.path.clone()),
            Encoding::Zero => Admitted::Clear(entry.path.clone()),
            Encoding::Raw | Encoding::Zstd { .. } => Admitted::Place(entry.path.clone()),
        };
        self.admitted += u64::from(length);
        if admitted == Admitted::AlreadyHeld {
            *slot = Slot::Placed(hash);
            self.bytes.count(header);
        } else {
            *slot = Slot::InHand(hash);
            self.in_hand += 1;
        }
        Ok(admitted)
    }

    /// The chunk was verified and lies where it belongs.
    pub fn placed(&mut self, header: &ChunkHeader) {
        let slot =
            self.entries.get_mut(&header.entry).and_then(|entry| entry.chunks.get_mut(header.index as usize));
        if let Some(slot @ Slot::InHand(_)) = slot {
            *slot = Slot::Placed(header.hash);
            self.in_hand -= 1;
            self.bytes.count(header);
        }
    }

    /// The sender has sent all of an entry.
    pub fn finish(&mut self, id: EntryId, size: u64, hash: Hash) -> Result<(), Violation> {
        let entry = self.entries.get_mut(&id).ok_or(Violation::NotAnnounced { entry: id })?;
        if entry.finished.is_some() {
            return Err(Violation::AfterFinish { path: entry.path.clone() });
        }
        if entry.size() != Some(size) {
            return Err(Violation::WrongSize { path: entry.path.clone(), size });
        }
        if tree::entry_hash(size, entry.chunks.iter().filter_map(Slot::hash)) != hash {
            return Err(Violation::WrongEntryHash { path: entry.path.clone() });
        }
        entry.finished = Some((size, hash));
        Ok(())
    }

    /// All lanes have ended and nothing is in hand: is this the tree that the sender sealed?
    pub fn verify(&self, seal: &Seal) -> Result<Verified, Violation> {
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in self.entries.values() {
            let (Some((size, hash)), true) = (entry.finished, entry.chunks.iter().all(Slot::is_placed))
            else {
                return Err(Violation::Unfinished { path: entry.path.clone() });
            };
            entries.push(Entry { path: entry.path.clone(), kind: entry.kind, size, hash });
        }
        let bytes = entries.iter().map(|entry| entry.size).sum::<u64>();
        let root = tree::root(&mut entries);
        if (seal.entries as usize, seal.bytes, seal.root) != (entries.len(), bytes, root) {
            return Err(Violation::WrongRoot { sealed: seal.root, placed: root });
        }
        let leftovers = self.held.paths().filter(|path| !self.paths.contains(*path)).cloned().collect();
        Ok(Verified { root, entries, leftovers })
    }

    /// What lies in its place, for the next connection.
    pub fn into_held(self) -> HeldChunks {
        let mut held = self.held;
        for entry in self.entries.values() {
            held.touch(&entry.path);
            for (index, slot) in (0..).zip(&entry.chunks) {
                match slot {
                    Slot::Placed(hash) => held.insert(&entry.path, index, *hash),
                    // Written again with what was there, it is still there; else it may be half of either.
                    Slot::InHand(hash) if held.get(&entry.path, index) == Some(*hash) => {}
                    Slot::InHand(_) => held.remove(&entry.path, index),
                    Slot::Missing => {}
                }
            }
        }
        held
    }
}

impl Incoming {
    /// The entry's size if no chunk is missing and only the last may be short.
    fn size(&self) -> Option<u64> {
        if self.chunks.contains(&Slot::Missing) {
            return None;
        }
        let chunks = u32::try_from(self.chunks.len()).ok()?;
        match self.tail {
            None => Some(chunk::offset(chunks)),
            Some((index, length)) if index + 1 == chunks => Some(chunk::offset(index) + u64::from(length)),
            Some(_) => None,
        }
    }
}

impl Slot {
    fn hash(&self) -> Option<&Hash> {
        match self {
            Self::Missing => None,
            Self::InHand(hash) | Self::Placed(hash) => Some(hash),
        }
    }

    fn is_placed(&self) -> bool {
        matches!(self, Self::Placed(_))
    }
}

/// The sender did what the protocol doesn't allow, or what the limits don't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More entries than the limit.
    #[error("the tree has more than {limit} entries: raise the receiver's limit if that is expected")]
    TooManyEntries {
        /// [`Limits::max_entries`].
        limit: u32,
    },
    /// More bytes than the limit.
    #[error("the tree has more than {limit} bytes: raise the receiver's limit if there is room")]
    TooManyBytes {
        /// [`Limits::max_bytes`].
        limit: u64,
    },
    /// More lanes than either end may open.
    #[error("the sender opened or sealed more than {limit} lanes")]
    TooManyLanes {
        /// The most that there may be.
        limit: u16,
    },
    /// A number was announced again.
    #[error("{entry:?} was announced twice")]
    EntryTwice {
        /// The entry.
        entry: EntryId,
    },
    /// A path was announced again.
    #[error("entry {path} was announced twice")]
    PathTwice {
        /// The entry.
        path: TreePath,
    },
    /// A chunk or an end of an entry that was never announced.
    #[error("{entry:?} was never announced")]
    NotAnnounced {
        /// The entry.
        entry: EntryId,
    },
    /// A chunk or an end of an entry that is finished.
    #[error("entry {path} was finished before")]
    AfterFinish {
        /// The entry.
        path: TreePath,
    },
    /// A chunk came again.
    #[error("chunk {index} of {path} came twice")]
    ChunkTwice {
        /// The entry.
        path: TreePath,
        /// The chunk.
        index: u32,
    },
    /// More than one chunk of an entry is short.
    #[error("chunk {index} of {path} is the second that isn't whole")]
    ShortTwice {
        /// The entry.
        path: TreePath,
        /// The chunk.
        index: u32,
    },
    /// A chunk is said to be held that isn't, or isn't with this hash.
    #[error("chunk {index} of {path} isn't held with this hash")]
    NotHeld {
        /// The entry.
        path: TreePath,
        /// The chunk.
        index: u32,
    },
    /// An entry was finished although chunks are missing, or with a size that they don't have.
    #[error("the chunks of {path} don't make up {size} bytes")]
    WrongSize {
        /// The entry.
        path: TreePath,
        /// The size stated.
        size: u64,
    },
    /// An entry was finished with a hash that its chunks don't have.
    #[error("the chunks of {path} don't have the hash that the sender states")]
    WrongEntryHash {
        /// The entry.
        path: TreePath,
    },
    /// The tree was sealed although an entry isn't finished.
    #[error("the tree was sealed before {path} was finished")]
    Unfinished {
        /// The entry.
        path: TreePath,
    },
    /// The tree isn't the one that was sealed.
    #[error("the tree was sealed as {sealed}, what was placed is {placed}")]
    WrongRoot {
        /// What the sender says.
        sealed: Hash,
        /// What lies there.
        placed: Hash,
    },
}

impl Violation {
    /// The code that the connection is closed with.
    pub fn code(&self) -> CloseCode {
        match self {
            Self::TooManyEntries { .. } | Self::TooManyBytes { .. } | Self::TooManyLanes { .. } => {
                CloseCode::TooMuch
            }
            Self::EntryTwice { .. }
            | Self::PathTwice { .. }
            | Self::NotAnnounced { .. }
            | Self::AfterFinish { .. }
            | Self::ChunkTwice { .. }
            | Self::ShortTwice { .. }
            | Self::NotHeld { .. } => CloseCode::OutOfPlace,
            Self::WrongSize { .. }
            | Self::WrongEntryHash { .. }
            | Self::Unfinished { .. }
            | Self::WrongRoot { .. } => CloseCode::BadSeal,
        }
    }
}

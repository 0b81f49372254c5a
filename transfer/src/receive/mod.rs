//! The receiving end.
//!
//! Where a byte is, in order: [`lane`] reads a chunk off its QUIC stream; [`place`] decompresses it, holds it against
//! its hash and writes it into its file, on blocking threads; [`drive`] owns both and, at the end, compares what lies
//! there with what the sender sealed. Every step waits for the next one, and the sender waits for QUIC's windows.

mod drive;
mod error;
mod incoming;
mod lane;
mod listener;
mod place;
mod shared;

use std::path::{Path, PathBuf};

use blake3::Hash;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::core::bytes::TransferBytes;
use crate::core::held::HeldChunks;
use crate::core::limits::Limits;
use crate::core::tree::Entry;
use crate::store::Store;

pub use error::{AcceptError, AcceptFault, Failed, ReceiveError};
pub use incoming::Incoming;
pub use listener::Listener;

/// A tree that is being received. It goes on by itself; dropping it cancels the transfer, and the sender is told so.
#[derive(Debug)]
pub struct Receiving {
    progress: watch::Receiver<TransferBytes>,
    task: AbortOnDropHandle<Result<VerifiedTree, Failed>>,
}

impl Receiving {
    /// Bytes so far, updated with every chunk that lies in its place.
    pub fn progress(&self) -> watch::Receiver<TransferBytes> {
        self.progress.clone()
    }

    /// Waits until the tree is complete, verified and has been reported so to the sender.
    pub async fn verified(self) -> Result<VerifiedTree, Failed> {
        self.task.await.unwrap_or_else(|error| Err(Failed::without_rest(ReceiveError::worker(error))))
    }
}

/// A tree that is complete and is what its sender sealed. There is no other way to get one than
/// [`Receiving::verified`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTree {
    dir: PathBuf,
    root: Hash,
    entries: Vec<Entry>,
    bytes: TransferBytes,
}

impl VerifiedTree {
    /// The directory that it lies in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root over all of it.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where its bytes came from.
    pub fn bytes(&self) -> TransferBytes {
        self.bytes
    }
}

/// What had arrived when a transfer failed, for [`Incoming::resume`]. The directory is kept as it is.
#[derive(Debug)]
pub struct Partial(Box<Rest>);

#[derive(Debug)]
struct Rest {
    store: Store,
    held: HeldChunks,
    limits: Limits,
}

impl Partial {
    /// The directory that it lies in.
    pub fn dir(&self) -> &Path {
        self.0.store.path()
    }

    /// Chunks that needn't be sent again.
    pub fn chunks(&self) -> usize {
        self.0.held.len()
    }
}

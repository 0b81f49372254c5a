//! What the lanes and the workers of one transfer share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::core::bytes::TransferBytes;
use crate::core::chunk::ChunkHeader;
use crate::core::receive::ReceiveSession;
use crate::pool::Pool;
use crate::store::Store;

#[derive(Debug)]
pub(super) struct Shared {
    session: Mutex<ReceiveSession>,
    progress: watch::Sender<TransferBytes>,
    frames: AtomicU64,
    pub store: Store,
    pub buffers: Pool<Vec<u8>>,
}

impl Shared {
    pub fn new(session: ReceiveSession, store: Store, progress: watch::Sender<TransferBytes>) -> Self {
        let (session, frames) = (Mutex::new(session), AtomicU64::new(0));
        Self { session, progress, frames, store, buffers: Pool::default() }
    }

    pub fn session(&self) -> MutexGuard<'_, ReceiveSession> {
        // The books are changed in single steps: a panic elsewhere leaves them whole.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame has come.
    pub fn heard(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames that have come: that the number stands still means that the sender is silent.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// A chunk lies in its place.
    pub fn placed(&self, header: &ChunkHeader) {
        self.session().placed(header);
        self.report();
    }

    /// Tells whoever follows the progress.
    pub fn report(&self) {
        let bytes = self.session().bytes();
        self.progress.send_replace(bytes);
    }

    /// What was received, and what is known of it, when nobody shares it any more.
    pub fn into_parts(self) -> (ReceiveSession, Store) {
        (self.session.into_inner().unwrap_or_else(PoisonError::into_inner), self.store)
    }
}

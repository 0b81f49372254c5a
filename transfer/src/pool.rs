//! Things that are costly to make and are used over and over: buffers, compression contexts.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::chunk::CHUNK_BYTES;

/// Keeps what was used for whoever needs one next.
///
/// It has no bound of its own: as many things exist as are in use at once, and their users are bounded. What it spares
/// is fresh memory, whose first touch costs as much as all the work on a chunk.
#[derive(Debug)]
pub(crate) struct Pool<T>(Arc<Mutex<Vec<T>>>);

impl<T: Default> Pool<T> {
    /// One that was used before, in whatever state it was left; or else a new one.
    pub fn take(&self) -> Pooled<T> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Pooled { item: free.unwrap_or_default(), pool: Arc::clone(&self.0) }
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Goes back into its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Pooled<T: Default> {
    item: T,
    pool: Arc<Mutex<Vec<T>>>,
}

impl<T: Default> Drop for Pooled<T> {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.item));
    }
}

impl<T: Default> Deref for Pooled<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Default> DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.item
    }
}

impl<T: Default + AsRef<[u8]>> AsRef<[u8]> for Pooled<T> {
    fn as_ref(&self) -> &[u8] {
        self.item.as_ref()
    }
}

/// A buffer of one chunk. Its content is whatever was there before.
pub(crate) type Buffer = Pooled<Vec<u8>>;

impl Pool<Vec<u8>> {
    /// A buffer of [`CHUNK_BYTES`].
    pub fn buffer(&self) -> Buffer {
        let mut buffer = self.take();
        buffer.resize(CHUNK_BYTES, 0);
        buffer
    }
}

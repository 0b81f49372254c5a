//! What a receiver is willing to take.

use std::time::Duration;

use super::chunk::CHUNK_BYTES;

/// What a receiver takes from one sender before it closes the connection.
///
/// The limits also bound what a hostile sender can make the receiver remember: 33 bytes for each 256 KiB of `max_bytes`
/// and up to 700 bytes for each of `max_entries`, beside the 8 MiB that may be under way. With the defaults that is less
/// than 16 MiB a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes in all files together, before compression, holes counted in. Default: 32 GiB; set it to what the
    /// target has room for.
    pub max_bytes: u64,
    /// Most entries. Default: 16,384.
    pub max_entries: u32,
    /// How long the sender may say nothing at all; noticed after one to two times this. An honest sender speaks every
    /// 10 s ([`ALIVE_INTERVAL`](super::frame::ALIVE_INTERVAL)). Default: 60 s.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 32 << 30, max_entries: 16_384, silence: Duration::from_secs(60) }
    }
}

impl Limits {
    /// Most chunks that can lie within the limits: every file may end in a chunk that isn't full.
    pub(crate) fn max_chunks(&self) -> u64 {
        (self.max_bytes / CHUNK_BYTES as u64).saturating_add(u64::from(self.max_entries))
    }
}

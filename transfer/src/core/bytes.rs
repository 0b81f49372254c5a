//! Counting bytes.

use super::chunk::{ChunkHeader, Encoding};

/// Where a transfer's bytes went. `total` is what the tree holds; each of its bytes was sent (raw or compressed), was
/// zero, or was held already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferBytes {
    /// Bytes of all entries so far.
    pub total: u64,
    /// Payload bytes on the wire, after compression, without frames and packet headers.
    pub sent: u64,
    /// Bytes of chunks that are all zero: not sent.
    pub zero: u64,
    /// Bytes of chunks that the receiver held already: not sent.
    pub deduplicated: u64,
}

impl TransferBytes {
    pub(crate) fn count(&mut self, chunk: &ChunkHeader) {
        let length = u64::from(chunk.length);
        self.total += length;
        self.sent += u64::from(chunk.payload());
        match chunk.encoding {
            Encoding::Raw | Encoding::Zstd { .. } => {}
            Encoding::Zero => self.zero += length,
            Encoding::Held => self.deduplicated += length,
        }
    }
}

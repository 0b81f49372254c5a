//! The unit of everything: 256 KiB of an entry, at a fixed offset.

use std::sync::LazyLock;

use blake3::Hash;

/// Bytes in every chunk of an entry but its last, which may be shorter.
///
/// Large enough that a chunk's fixed cost (a frame, a hash, a system call, a wake-up) is small beside its bytes, and
/// that the hashes of 64 GiB are 8 MiB; small enough that a changed page sends little beside itself.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// An entry's number within one connection; the sender gives them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u32);

/// What a chunk's frame says of the bytes that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The entry that it is a part of.
    pub entry: EntryId,
    /// Its place: it begins at `index * CHUNK_BYTES`.
    pub index: u32,
    /// Its bytes once decoded: 1 to [`CHUNK_BYTES`].
    pub length: u32,
    /// How they come.
    pub encoding: Encoding,
    /// BLAKE3 of its decoded bytes.
    pub hash: Hash,
}

/// How a chunk's bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Raw,
    /// As one zstd frame (RFC 8878).
    Zstd {
        /// Bytes of the frame: fewer than the chunk's own.
        payload: u32,
    },
    /// Not at all: they are all zero.
    Zero,
    /// Not at all: the receiver said that it holds this chunk with this hash.
    Held,
}

impl ChunkHeader {
    /// Bytes that follow the frame.
    pub fn payload(&self) -> u32 {
        match self.encoding {
            Encoding::Raw => self.length,
            Encoding::Zstd { payload } => payload,
            Encoding::Zero | Encoding::Held => 0,
        }
    }

    /// Where in the entry it begins, in bytes.
    pub fn offset(&self) -> u64 {
        offset(self.index)
    }
}

/// Where in its entry the chunk `index` begins, in bytes.
pub fn offset(index: u32) -> u64 {
    u64::from(index) * CHUNK_BYTES as u64
}

/// Chunks of an entry of `size` bytes; none if more than an index can name (1 PiB).
pub fn count(size: u64) -> Option<u32> {
    u32::try_from(size.div_ceil(CHUNK_BYTES as u64)).ok()
}

/// Length of the chunk `index` of an entry of `size` bytes; 0 beyond its end.
pub fn length(size: u64, index: u32) -> usize {
    size.saturating_sub(offset(index)).min(CHUNK_BYTES as u64) as usize
}

/// Whether all of `data` is zero.
pub fn is_zero(data: &[u8]) -> bool {
    // Blocks without a branch inside become wide instructions; the first byte that isn't zero still ends it early.
    data.chunks(512).all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
}

/// The hash of `length` zero bytes, at most [`CHUNK_BYTES`].
pub fn zero_hash(length: usize) -> Hash {
    static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
    static WHOLE: LazyLock<Hash> = LazyLock::new(|| blake3::hash(&ZEROS));
    match ZEROS.get(..length) {
        Some(zeros) if length < CHUNK_BYTES => blake3::hash(zeros),
        _ => *WHOLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_counts_agree() {
        let whole = CHUNK_BYTES as u64;
        for (size, chunks, last) in [
            (0, 0, 0),
            (1, 1, 1),
            (whole, 1, CHUNK_BYTES),
            (whole + 1, 2, 1),
            (3 * whole - 1, 3, CHUNK_BYTES - 1),
        ] {
            assert_eq!(count(size), Some(chunks));
            assert_eq!(length(size, chunks.saturating_sub(1)), last);
            assert_eq!(length(size, chunks), 0);
        }
        assert_eq!(count(u64::MAX), None);
    }

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        let mut data = vec![0; CHUNK_BYTES];
        assert!(is_zero(&data));
        for at in [0, 1, 511, 512, 70_000, CHUNK_BYTES - 1] {
            data[at] = 0x80;
            assert!(!is_zero(&data), "{at}");
            data[at] = 0;
        }
    }

    #[test]
    fn zero_hashes_are_those_of_zeros() {
        for length in [0, 1, 4096, CHUNK_BYTES - 1, CHUNK_BYTES] {
            assert_eq!(zero_hash(length), blake3::hash(&vec![0; length]));
        }
    }
}

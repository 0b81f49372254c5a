//! Compression of a chunk, where it is worth it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::core::chunk::CHUNK_BYTES;

/// zstd's level 1 is 430 MB/s a core; what higher ones win on memory images is a few per cent.
const LEVEL: i32 = 1;

/// A compression context with its output buffer: 1.3 MB, made once per worker.
#[derive(Default)]
pub(super) struct Compressor(Option<(zstd::bulk::Compressor<'static>, Vec<u8>)>);

impl Compressor {
    /// `data` as a zstd frame, if that saves at least an eighth.
    pub fn compress(&mut self, data: &[u8]) -> io::Result<Option<Bytes>> {
        let (context, output) = match &mut self.0 {
            Some(context) => context,
            none => none.insert((zstd::bulk::Compressor::new(LEVEL)?, vec![0; CHUNK_BYTES])),
        };
        let (room, _) = output.split_at_mut(data.len() - data.len() / 8);
        // The one thing that can fail is that the output has no room: then it isn't worth it.
        let frame = context.compress_to_buffer(data, room).ok().map(|length| &room[..length]);
        // Copied, so that what waits to be acknowledged takes the memory of what was sent, not a whole buffer's.
        Ok(frame.map(Bytes::copy_from_slice))
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

/// Whether an entry's chunks are worth trying, judged by the last ones.
///
/// After two chunks in a row that didn't shrink only every sixteenth is tried, until one does.
#[derive(Debug, Default)]
pub(super) struct Compressibility {
    /// Chunks since one shrank, tried or not.
    since: AtomicU32,
}

impl Compressibility {
    pub fn worth_trying(&self) -> bool {
        let since = self.since.fetch_add(1, Ordering::Relaxed);
        since < 2 || since.is_multiple_of(16)
    }

    pub fn shrank(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shrinks_is_compressed_and_comes_back() {
        let data = b"transship ".repeat(20_000);
        let frame = Compressor::default().compress(&data).unwrap().unwrap();
        assert!(frame.len() < data.len() / 100);
        assert_eq!(zstd::bulk::decompress(&frame, data.len()).unwrap(), data);
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let mut noise = vec![0; CHUNK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let mut compressor = Compressor::default();
        for length in [1, 7, 8, 100, CHUNK_BYTES] {
            assert_eq!(compressor.compress(&noise[..length]).unwrap(), None, "{length}");
        }
    }

    #[test]
    fn noise_is_tried_now_and_then_and_order_ends_it() {
        let entry = Compressibility::default();
        let tried = (0..160).filter(|_| entry.worth_trying()).count();
        assert_eq!(tried, 11);
        entry.shrank();
        assert!(entry.worth_trying());
    }
}

//! Cutting an entry into chunks, and all the work on a chunk before it is sent.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::compress::Compressibility;
use super::lane::LaneItem;
use super::tradeoff::Took;
use super::{SendError, Shared};
use crate::core::chunk::{self, ChunkHeader, Encoding, EntryId};
use crate::core::frame::Lane;
use crate::core::path::TreePath;

/// An entry that is being sent.
#[derive(Debug, Clone)]
pub(super) struct EntryCut(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    lane: mpsc::Sender<LaneItem>,
    id: EntryId,
    path: TreePath,
    file: File,
    compressibility: Compressibility,
}

impl EntryCut {
    pub fn new(shared: Arc<Shared>, id: EntryId, path: TreePath, file: File) -> Self {
        // All of an entry goes through one lane: it is announced and finished there, in order with its chunks.
        let lane = shared.lanes[id.0 as usize % shared.lanes.len()].clone();
        Self(Arc::new(Inner { shared, lane, id, path, file, compressibility: Compressibility::default() }))
    }

    /// The file's size at this moment, in bytes.
    pub fn size(&self) -> Result<u64, SendError> {
        self.0.file.metadata().map(|metadata| metadata.len()).map_err(|source| self.unreadable(source))
    }

    /// Sends a frame that has no payload.
    pub async fn say(&self, frame: Lane) -> Result<(), SendError> {
        let sent = self.0.lane.send(LaneItem::Frame { frame, payload: Bytes::new() }).await;
        self.0.shared.written(sent).await
    }

    /// Sends the chunks `range` of the file, which is at least `size` bytes long, on as many threads as there are
    /// cores. They take the next chunk as they get to it, so they arrive in about their order.
    pub async fn send(&self, range: Range<u32>, size: u64) -> Result<(), SendError> {
        let cancelled = CancellationToken::new();
        // Threads can't be stopped from outside: they look whether anyone still waits for them.
        let _on_drop = cancelled.clone().drop_guard();
        let threads = available_parallelism().map_or(1, usize::from).min(range.len());
        let next = Arc::new(AtomicU32::new(range.start));
        let mut workers = JoinSet::new();
        for _ in 0..threads {
            let (entry, next, cancelled) = (self.clone(), Arc::clone(&next), cancelled.clone());
            workers.spawn_blocking(move || {
                while !cancelled.is_cancelled() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= range.end {
                        break;
                    }
                    entry.send_chunk(index, size)?;
                }
                Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            match worker.map_err(SendError::worker)? {
                Ok(()) => {}
                Err(Stop::Lane) => return self.0.shared.written(Err(Stop::Lane)).await,
                Err(Stop::Read(source)) if source.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.changed());
                }
                Err(Stop::Read(source)) => return Err(self.unreadable(source)),
            }
        }
        Ok(())
    }

    /// Says that all of the entry has been sent.
    pub async fn finish(&self, size: u64) -> Result<(), SendError> {
        let frame = self.0.shared.session().finish(self.0.id, size)?;
        self.say(frame).await
    }

    pub fn changed(&self) -> SendError {
        SendError::Changed { path: self.0.path.clone() }
    }

    fn unreadable(&self, source: io::Error) -> SendError {
        SendError::Read { path: self.0.path.clone(), source }
    }

    /// Reads, tests, hashes and compresses one chunk and hands it to the lane, waiting for room there.
    fn send_chunk(&self, index: u32, size: u64) -> Result<(), Stop> {
        let Inner { shared, lane, id, file, .. } = &*self.0;
        let length = chunk::length(size, index);
        let mut buffer = shared.buffers.buffer();
        let data = &mut buffer[..length];
        file.read_exact_at(data, chunk::offset(index)).map_err(Stop::Read)?;

        let mut compressing = None;
        let (hash, encoding, payload) = if chunk::is_zero(data) {
            (chunk::zero_hash(length), Encoding::Zero, Bytes::new())
        } else {
            let hash = blake3::hash(data);
            if shared.session().is_held(*id, index, hash) {
                (hash, Encoding::Held, Bytes::new())
            } else if let Some((frame, time)) = self.compress(data).map_err(Stop::Read)? {
                compressing = Some((frame.len(), time));
                (hash, Encoding::Zstd { payload: frame.len() as u32 }, frame)
            } else {
                (hash, Encoding::Raw, Bytes::from_owner(buffer).slice(..length))
            }
        };
        let header = ChunkHeader { entry: *id, index, length: length as u32, encoding, hash };
        let bytes = {
            let mut session = shared.session();
            session.chunk(&header);
            session.bytes()
        };
        shared.progress.send_replace(bytes);
        let (is_sent, begun) = (!payload.is_empty(), Instant::now());
        let item = LaneItem::Frame { frame: Lane::Chunk(header), payload };
        lane.blocking_send(item).map_err(|_| Stop::Lane)?;
        if is_sent {
            shared.tradeoff.sent(Took { content: length, compressing, waiting: begun.elapsed() });
        }
        Ok(())
    }

    /// The chunk as a zstd frame, and how long that took; `None` if it goes as it is.
    fn compress(&self, data: &[u8]) -> io::Result<Option<(Bytes, Duration)>> {
        let Inner { shared, compressibility, .. } = &*self.0;
        if !shared.tradeoff.pays() || !compressibility.worth_trying() {
            return Ok(None);
        }
        let begun = Instant::now();
        let frame = shared.compressors.take().compress(data)?;
        if frame.is_some() {
            compressibility.shrank();
        }
        Ok(frame.map(|frame| (frame, begun.elapsed())))
    }
}

/// Why a worker stopped early.
#[derive(Debug)]
enum Stop {
    /// The lane's writer is gone, and knows why.
    Lane,
    Read(io::Error),
}

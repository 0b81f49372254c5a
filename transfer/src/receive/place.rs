//! All the work on a chunk after it was received.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::error::ReceiveError;
use super::shared::Shared;
use crate::core::chunk::{self, ChunkHeader, Encoding};
use crate::core::path::TreePath;
use crate::pool::Buffer;

/// A chunk that the session admitted, with what has to be done.
#[derive(Debug)]
pub(super) struct Job {
    pub header: ChunkHeader,
    pub path: TreePath,
    pub work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    /// Decode and verify the payload at the front of the buffer, then write it.
    Place(Buffer),
    /// Make a hole.
    Clear,
}

/// Jobs for whoever is free.
pub(super) type Queue = Arc<Mutex<mpsc::Receiver<Job>>>;

/// Works jobs off until there will be no more. For a blocking thread.
pub(super) fn work(queue: &Queue, shared: &Shared) -> Result<(), ReceiveError> {
    let mut decompressor = Decompressor(None);
    loop {
        // The lock is held while waiting: one worker waits for a job, the others for their turn to wait.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return Ok(()) };
        place(&job, &mut decompressor, shared)?;
        shared.placed(&job.header);
    }
}

fn place(job: &Job, decompressor: &mut Decompressor, shared: &Shared) -> Result<(), ReceiveError> {
    let Job { header, path, work } = job;
    let Work::Place(payload) = work else {
        check_zero(path, header)?;
        return Ok(shared.store.clear(path, header.offset(), header.length.into())?);
    };
    let payload = &payload[..header.payload() as usize];
    let mut buffer;
    let data = match header.encoding {
        Encoding::Zstd { .. } => {
            buffer = shared.buffers.buffer();
            let data = &mut buffer[..header.length as usize];
            decompressor.decompress(payload, data).ok_or_else(|| mismatch(path, header))?;
            &*data
        }
        _ => payload,
    };
    if blake3::hash(data) != header.hash {
        return Err(mismatch(path, header));
    }
    Ok(shared.store.write(path, header.offset(), data)?)
}

/// Whether zeros have the hash that the frame promises.
pub(super) fn check_zero(path: &TreePath, header: &ChunkHeader) -> Result<(), ReceiveError> {
    if chunk::zero_hash(header.length as usize) == header.hash { Ok(()) } else { Err(mismatch(path, header)) }
}

fn mismatch(path: &TreePath, header: &ChunkHeader) -> ReceiveError {
    ReceiveError::ChunkMismatch { path: path.clone(), index: header.index }
}

/// A decompression context, made when the first chunk needs it.
struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

impl Decompressor {
    /// Decodes `frame` into all of `data`; `None` if it isn't a frame of just that many bytes.
    fn decompress(&mut self, frame: &[u8], data: &mut [u8]) -> Option<()> {
        let context = match &mut self.0 {
            Some(context) => context,
            none => none.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        (context.decompress_to_buffer(frame, data).ok()? == data.len()).then_some(())
    }
}

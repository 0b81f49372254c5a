//! Sending a file while it is still being written.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::SendError;
use super::cut::EntryCut;
use crate::core::chunk::{self, CHUNK_BYTES};

/// How often a growing file's size is looked at. Nothing can be awaited in its stead: CRIU splices its pages into the
/// file, and a splice into a file on tmpfs raises no inotify event on every kernel.
const TICK: Duration = Duration::from_millis(1);

/// A file that is sent while it grows. Dropping it leaves its entry unfinished, which can't be sealed.
#[derive(Debug)]
pub struct Follow {
    written: CancellationToken,
    task: AbortOnDropHandle<Result<u64, SendError>>,
}

impl Follow {
    pub(super) fn new(entry: EntryCut) -> Self {
        let written = CancellationToken::new();
        let task = tokio::spawn(follow(entry, written.clone()));
        Self { written, task: AbortOnDropHandle::new(task) }
    }

    /// The writer is done: sends the rest. Returns the file's size in bytes when all of it is on its way.
    pub async fn finish(self) -> Result<u64, SendError> {
        self.written.cancel();
        self.task.await.map_err(SendError::worker)?
    }
}

async fn follow(entry: EntryCut, written: CancellationToken) -> Result<u64, SendError> {
    let mut sent = 0;
    loop {
        // Asked before the size is: what was written before the writer ended is then in the size.
        let complete = written.is_cancelled();
        let size = entry.size()?;
        let chunks =
            if complete { chunk::count(size) } else { u32::try_from(size / CHUNK_BYTES as u64).ok() };
        let chunks = chunks.filter(|chunks| *chunks >= sent).ok_or_else(|| entry.changed())?;
        entry.send(sent..chunks, size).await?;
        sent = chunks;
        if complete {
            entry.finish(size).await?;
            return Ok(size);
        }
        tokio::select! {
            () = sleep(TICK) => {}
            () = written.cancelled() => {}
        }
    }
}

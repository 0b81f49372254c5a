//! Writing a lane.

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::core::frame::{ALIVE_INTERVAL, Frame, Lane};
use crate::quic::LinkError;

/// What a lane's writer is given.
#[derive(Debug)]
pub(super) enum LaneItem {
    /// A frame, and the payload of a chunk.
    Frame { frame: Lane, payload: Bytes },
    /// Nothing more will come.
    End,
}

/// Most frames that are handed to QUIC at once.
const BATCH: usize = 4;

/// Writes what comes until [`LaneItem::End`], then ends the stream. Payloads are handed over, not copied.
pub(super) async fn write_lane(
    mut items: mpsc::Receiver<LaneItem>,
    mut stream: SendStream,
    quic: quinn::Connection,
    mut faults: Faults,
) -> Result<(), LinkError> {
    let mut batch = Vec::with_capacity(BATCH);
    let mut parts = Vec::with_capacity(2 * BATCH);
    loop {
        match timeout(ALIVE_INTERVAL, items.recv_many(&mut batch, BATCH)).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(_) => batch.push(LaneItem::Frame { frame: Lane::Alive, payload: Bytes::new() }),
        }
        let mut ended = false;
        for item in batch.drain(..) {
            match item {
                LaneItem::Frame { frame, payload } => {
                    let mut head = Vec::with_capacity(64);
                    frame.encode(&mut head);
                    parts.push(head.into());
                    if !payload.is_empty() {
                        parts.push(faults.meet(payload));
                    }
                }
                LaneItem::End => ended = true,
            }
        }
        if stream.write_all_chunks(&mut parts).await.is_err() {
            // The receiver may have closed the connection, and says why a moment after its streams are gone.
            return Err(quic.closed().await.into());
        }
        parts.clear();
        if ended {
            // Fails only if the stream was finished or reset, and it is this function's own.
            stream.finish().ok();
            return Ok(());
        }
    }
}

/// Faults that a test wants to happen: none in a build without them.
#[cfg(not(feature = "faults"))]
#[derive(Debug, Clone)]
pub(super) struct Faults;

#[cfg(not(feature = "faults"))]
impl Faults {
    pub fn none() -> Self {
        Self
    }

    fn meet(&mut self, payload: Bytes) -> Bytes {
        payload
    }
}

#[cfg(feature = "faults")]
pub(super) use crate::faults::Armed as Faults;

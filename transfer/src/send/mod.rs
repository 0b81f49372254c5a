//! The sending end.
//!
//! Where a byte is, in order: [`cut`] reads a chunk, tests it for zero, hashes it and has it compressed ([`compress`])
//! where that pays ([`tradeoff`]), all on blocking threads; [`lane`] writes it to its QUIC stream. Every step waits for
//! the next one, and QUIC waits for the receiver, so a transfer holds a few chunks per core and what QUIC has under way.

mod compress;
mod cut;
mod error;
mod follow;
mod lane;
mod open;
mod tradeoff;

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blake3::Hash;
use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::compress::Compressor;
use self::cut::EntryCut;
use self::lane::LaneItem;
use self::tradeoff::Tradeoff;
use crate::core::bytes::TransferBytes;
use crate::core::chunk;
use crate::core::close::CloseCode;
use crate::core::frame::{Answer, Control, Frame};
use crate::core::path::TreePath;
use crate::core::send::SendSession;
use crate::core::tree::EntryKind;
use crate::pool::Pool;
use crate::quic::streams::FrameReader;
use crate::quic::{Connection, LinkError, PathStats};

pub use error::SendError;
pub use follow::Follow;
pub use tradeoff::Compression;

/// Sends one tree over one connection.
///
/// Dropping it before [`seal`](Self::seal) has returned cancels the transfer: the connection is closed with
/// [`CloseCode::Cancelled`].
#[derive(Debug)]
pub struct Sender {
    // Dropped first: the receiver is told of the end before streams are torn down under it.
    connection: Connection,
    control: SendStream,
    answers: FrameReader,
    shared: Arc<Shared>,
    writers: JoinSet<Result<(), LinkError>>,
}

/// What all entries of a transfer share.
#[derive(Debug)]
struct Shared {
    session: Mutex<SendSession>,
    lanes: Vec<mpsc::Sender<LaneItem>>,
    progress: watch::Sender<TransferBytes>,
    buffers: Pool<Vec<u8>>,
    compressors: Pool<Compressor>,
    tradeoff: Tradeoff,
    quic: quinn::Connection,
}

/// A tree that the receiver has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The root over all of it, the same on both ends.
    pub root: Hash,
    /// Where its bytes went.
    pub bytes: TransferBytes,
}

impl Sender {
    /// Asks the receiver to take a tree, and waits for its application's answer.
    ///
    /// `ticket`, at most 4,096 bytes, says why it should: it is opaque here, and the receiving application judges it
    /// together with this node's name. A ticket that comes a second time may be answered with what arrived the first
    /// time, which then isn't sent again.
    pub async fn open(connection: Connection, ticket: Bytes) -> Result<Self, SendError> {
        open::open(connection, ticket, lane::Faults::none()).await
    }

    /// [`open`](Self::open), with faults to come. `endpoint` is the connection's.
    #[cfg(feature = "faults")]
    pub async fn open_with_faults(
        connection: Connection,
        ticket: Bytes,
        faults: crate::faults::Faults,
        endpoint: &crate::Endpoint,
    ) -> Result<Self, SendError> {
        open::open(connection, ticket, lane::Faults::new(faults, endpoint)).await
    }

    /// Changes what is compressed from now on. Default: [`Compression::Auto`].
    pub fn compress(&self, compression: Compression) {
        self.shared.tradeoff.set(compression);
    }

    /// Sends a file that is complete. Returns when all of it is on its way.
    ///
    /// `path` is where it goes in the tree (see [`TreePath`]), of `mode` the permission bits count (`& 0o777`). May be
    /// called for several files at once. A file that wasn't sent to its end, because the call failed or was dropped,
    /// can't be sealed.
    pub async fn file(&self, path: &str, mode: u32, file: File) -> Result<(), SendError> {
        let entry = self.begin(path, mode, file).await?;
        let size = entry.size()?;
        let chunks = chunk::count(size).ok_or_else(|| entry.changed())?;
        entry.send(0..chunks, size).await?;
        entry.finish(size).await
    }

    /// Sends a file that is still being appended to: whole chunks go as soon as they are there, in the background,
    /// until [`Follow::finish`] sends the rest.
    ///
    /// What has been written once must not change any more.
    pub async fn follow(&self, path: &str, mode: u32, file: File) -> Result<Follow, SendError> {
        Ok(Follow::new(self.begin(path, mode, file).await?))
    }

    /// Bytes so far, updated with every chunk.
    pub fn progress(&self) -> watch::Receiver<TransferBytes> {
        self.shared.progress.subscribe()
    }

    /// What the network does to the transfer.
    pub fn path(&self) -> PathStats {
        PathStats::of(&self.shared.quic)
    }

    /// Says that the tree is complete, and waits until the receiver has verified and placed all of it.
    pub async fn seal(mut self) -> Result<Sealed, SendError> {
        let lanes = &self.shared.lanes;
        let seal = self.shared.session().seal(lanes.len() as u16)?;
        for lane in lanes {
            lane.send(LaneItem::End).await.ok(); // A writer that is gone says why when it is joined.
        }
        while let Some(writer) = self.writers.join_next().await {
            writer.map_err(SendError::worker)??;
        }

        let mut frame = Vec::new();
        Control::Seal(seal).encode(&mut frame);
        self.shared.written(self.control.write_all(&frame).await).await?;
        let answer = self.answers.next::<Answer>().await?;
        if answer != Some(Answer::Sealed { root: seal.root }) {
            let error = SendError::Answer("it answered the seal with something else".into());
            self.connection.close(CloseCode::OutOfPlace, &error.to_string());
            return Err(error);
        }
        self.connection.close(CloseCode::Done, "verified");
        let bytes = self.shared.session().bytes();
        Ok(Sealed { root: seal.root, bytes })
    }

    async fn begin(&self, path: &str, mode: u32, file: File) -> Result<EntryCut, SendError> {
        let path = TreePath::new(path)?;
        let kind = EntryKind::File { mode: mode & 0o777 };
        let (id, frame) = self.shared.session().announce(path.clone(), kind)?;
        let entry = EntryCut::new(Arc::clone(&self.shared), id, path, file);
        entry.say(frame).await?;
        Ok(entry)
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, SendSession> {
        // The books are changed in single steps: a panic elsewhere leaves them whole.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns the failure of a write into the reason for it: the receiver may have closed the connection, and says why
    /// a moment after its streams are gone.
    async fn written<T, E>(&self, outcome: Result<T, E>) -> Result<T, SendError> {
        match outcome {
            Ok(value) => Ok(value),
            Err(_) => Err(LinkError::from(self.quic.closed().await).into()),
        }
    }
}

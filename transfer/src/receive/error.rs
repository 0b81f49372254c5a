//! Why receiving failed.

use std::net::SocketAddr;
use std::time::Duration;

use super::Partial;
use crate::core::close::CloseCode;
use crate::core::frame::FrameError;
use crate::core::path::TreePath;
use crate::core::receive::Violation;
use crate::identity::NameError;
use crate::quic::LinkError;
use crate::quic::streams::StreamError;
use crate::store::StoreError;

/// A tree can't be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// No space left in the directory.
    #[error("{0}; make room, or raise the size of the directory")]
    TargetFull(#[source] StoreError),
    /// The directory can't be used, or a file in it can't be written.
    #[error(transparent)]
    Store(StoreError),
    /// The sender gave up.
    #[error("the sender gave up: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The connection ended. With [`LinkError::Lost`] the sender may come again and go on where it stopped.
    #[error(transparent)]
    Link(LinkError),
    /// A chunk's bytes aren't what its frame promised: damaged on the way, or by the sender.
    #[error("chunk {index} of {path} doesn't have the bytes that its hash promises")]
    ChunkMismatch {
        /// The entry.
        path: TreePath,
        /// The chunk.
        index: u32,
    },
    /// The sender did what the protocol or the limits don't allow.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The sender sent what isn't a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The sender said nothing for too long, though its connection is alive.
    #[error("the sender said nothing for {}s", silence.as_secs())]
    Silent {
        /// [`Limits::silence`](crate::Limits::silence).
        silence: Duration,
    },
    /// A worker of this process panicked or was shut down with its runtime.
    #[error("a worker of the receiver failed: {0}")]
    Worker(String),
}

impl ReceiveError {
    pub(super) fn worker(error: tokio::task::JoinError) -> Self {
        Self::Worker(error.to_string())
    }

    /// What the sender is told; `None` if it can't be told or knows already.
    pub(super) fn code(&self) -> Option<CloseCode> {
        match self {
            Self::TargetFull(_) => Some(CloseCode::TargetFull),
            Self::Store(_) => Some(CloseCode::StoreFailed),
            Self::ChunkMismatch { .. } => Some(CloseCode::BadChunk),
            Self::Violation(violation) => Some(violation.code()),
            Self::Frame(error) => Some(frame_code(error)),
            Self::Silent { .. } => Some(CloseCode::Silent),
            Self::Worker(_) => Some(CloseCode::Cancelled),
            Self::Cancelled { .. } | Self::Link(_) => None,
        }
    }
}

pub(super) fn frame_code(error: &FrameError) -> CloseCode {
    match error {
        FrameError::Version { .. } => CloseCode::Version,
        _ => CloseCode::BadFrame,
    }
}

impl From<StoreError> for ReceiveError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::TargetFull(error),
            error => Self::Store(error),
        }
    }
}

impl From<LinkError> for ReceiveError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed { code: CloseCode::Cancelled, reason } => Self::Cancelled { reason },
            error => Self::Link(error),
        }
    }
}

impl From<StreamError> for ReceiveError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Link(error) => error.into(),
            StreamError::Frame(error) => error.into(),
        }
    }
}

/// A transfer failed; what had arrived by then may be of use.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// Why.
    #[source]
    pub error: ReceiveError,
    /// What had arrived, for [`Incoming::resume`](crate::Incoming::resume); `None` if nothing is to be relied on.
    pub partial: Option<Partial>,
}

impl Failed {
    pub(super) fn without_rest(error: ReceiveError) -> Self {
        Self { error, partial: None }
    }
}

/// A connection never became a request to receive.
#[derive(Debug, thiserror::Error)]
#[error("a connection from {remote} came to nothing")]
pub struct AcceptError {
    /// Where it came from.
    pub remote: SocketAddr,
    /// Why.
    #[source]
    pub source: AcceptFault,
}

/// Why a connection never became a request to receive.
#[derive(Debug, thiserror::Error)]
pub enum AcceptFault {
    /// The handshake failed or the connection was lost.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Its certificate names no node.
    #[error(transparent)]
    Name(#[from] NameError),
    /// What it says isn't this protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It ended or went on without a ticket.
    #[error("it sent no ticket")]
    NoTicket,
    /// It took too long.
    #[error("it took longer than {}s", limit.as_secs())]
    TooSlow {
        /// [`Settings::handshake_timeout`](crate::quic::Settings::handshake_timeout).
        limit: Duration,
    },
}

impl From<StreamError> for AcceptFault {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Link(error) => error.into(),
            StreamError::Frame(error) => error.into(),
        }
    }
}

//! Why sending failed.

use std::io;

use crate::core::close::CloseCode;
use crate::core::frame::MAX_TICKET_BYTES;
use crate::core::held::TooManyHeld;
use crate::core::path::{PathError, TreePath};
use crate::core::send::Misuse;
use crate::quic::LinkError;

/// A tree can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiving application refused the ticket.
    #[error("the receiver refused the transfer: {reason} [{code}]")]
    Refused {
        /// The application's own code.
        code: u16,
        /// Why.
        reason: String,
    },
    /// The receiver has no room.
    #[error("no space left at the receiver: {reason}; make room there, or raise the size of its directory")]
    TargetFull {
        /// Where it stopped.
        reason: String,
    },
    /// The connection ended. With [`LinkError::Lost`] another try may go on where this one stopped.
    #[error(transparent)]
    Link(LinkError),
    /// The receiver doesn't keep to the protocol.
    #[error("the receiver doesn't keep to the protocol: {0}")]
    Answer(String),
    /// The ticket is longer than the protocol allows.
    #[error("a ticket of {bytes} bytes is too long, the most is {MAX_TICKET_BYTES}")]
    TicketTooLong {
        /// Its length.
        bytes: usize,
    },
    /// An entry can't have this path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// What was asked for makes no tree.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// A file can't be read.
    #[error("can't read the file that goes to {path}")]
    Read {
        /// Where it goes in the tree.
        path: TreePath,
        /// Why not.
        source: io::Error,
    },
    /// A file became shorter while it was sent, or is longer than the protocol allows (1 PiB).
    #[error("the file that goes to {path} changed its size while it was sent")]
    Changed {
        /// Where it goes in the tree.
        path: TreePath,
    },
    /// A worker of this process panicked or was shut down with its runtime.
    #[error("a worker of the sender failed: {0}")]
    Worker(String),
}

impl SendError {
    pub(super) fn worker(error: tokio::task::JoinError) -> Self {
        Self::Worker(error.to_string())
    }
}

impl From<LinkError> for SendError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed { code: CloseCode::Refused(code), reason } => Self::Refused { code, reason },
            LinkError::Closed { code: CloseCode::TargetFull, reason } => Self::TargetFull { reason },
            error => Self::Link(error),
        }
    }
}

impl From<TooManyHeld> for SendError {
    fn from(error: TooManyHeld) -> Self {
        Self::Answer(error.to_string())
    }
}

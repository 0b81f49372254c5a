//! Why a connection ended, or never began.

use quinn::{ConnectionError, ReadError, VarInt, WriteError};

use crate::core::close::CloseCode;

/// A connection came to an end that its user didn't ask for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// The other end closed it.
    #[error("the other end closed the connection: {reason} [{code}]")]
    Closed {
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        reason: String,
    },
    /// One end doesn't accept the other's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// The other end isn't heard any more, or restarted.
    #[error("the connection was lost: {0}; try again when the other end can be reached")]
    Lost(String),
    /// It was closed here.
    #[error("the connection was closed on this side")]
    ClosedHere,
    /// QUIC or TLS failed in a way that no retry mends.
    #[error("the connection failed: {0}")]
    Protocol(String),
}

/// One end doesn't accept the other's certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault} ({detail})", match whose {
    Whose::Theirs => "the other end's certificate isn't accepted: ",
    Whose::Ours => "the other end doesn't accept this node's certificate: ",
})]
pub struct CertificateProblem {
    /// Whose certificate it is.
    pub whose: Whose,
    /// What is wrong with it.
    pub fault: CertificateFault,
    /// The TLS library's words.
    pub detail: String,
}

/// Whose certificate isn't accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// This node's, by the other end.
    Ours,
    /// The other end's, by this node.
    Theirs,
}

/// What is wrong with a certificate: the alerts of RFC 8446, section 6.2, that a peer's certificate can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It isn't valid at this time.
    #[error("it has expired or isn't valid yet: issue a new one, or set the clock right")]
    Expired,
    /// It comes from another CA.
    #[error("it comes from another CA: both nodes need certificates of the same one")]
    UnknownCa,
    /// It is malformed or belongs to another node than the one that was dialled.
    #[error("it isn't this node's: dial the node by the name in its certificate")]
    WrongNode,
    /// There is none.
    #[error("there is none")]
    Missing,
    /// Something else: not for this purpose, or revoked.
    #[error("it can't be used for this")]
    Unusable,
}

impl CertificateFault {
    fn from_alert(alert: u8) -> Option<Self> {
        match alert {
            42 => Some(Self::WrongNode),          // bad_certificate
            43 | 44 | 46 => Some(Self::Unusable), // unsupported, revoked, unknown
            45 => Some(Self::Expired),            // certificate_expired
            48 | 51 => Some(Self::UnknownCa), // unknown_ca; decrypt_error: a CA of that name has another key
            116 => Some(Self::Missing),       // certificate_required
            _ => None,
        }
    }
}

/// TLS alerts come as QUIC errors 0x100 to 0x1ff (RFC 9001, section 4.8).
fn certificate_problem(whose: Whose, code: u64, detail: String) -> Result<CertificateProblem, String> {
    let alert = code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    match alert.and_then(CertificateFault::from_alert) {
        Some(fault) => Ok(CertificateProblem { whose, fault, detail }),
        None => Err(detail),
    }
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        let (whose, code) = match &error {
            ConnectionError::ApplicationClosed(close) => {
                return Self::Closed {
                    code: CloseCode::from_wire(close.error_code.into_inner()),
                    reason: String::from_utf8_lossy(&close.reason).into_owned(),
                };
            }
            ConnectionError::LocallyClosed => return Self::ClosedHere,
            ConnectionError::TimedOut | ConnectionError::Reset => return Self::Lost(error.to_string()),
            ConnectionError::TransportError(fault) => (Whose::Theirs, u64::from(fault.code)),
            ConnectionError::ConnectionClosed(close) => (Whose::Ours, u64::from(close.error_code)),
            ConnectionError::VersionMismatch | ConnectionError::CidsExhausted => {
                return Self::Protocol(error.to_string());
            }
        };
        match certificate_problem(whose, code, error.to_string()) {
            Ok(problem) => Self::Certificate(problem),
            Err(detail) => Self::Protocol(detail),
        }
    }
}

/// A stream that was reset or stopped although its connection lives on: the other end's process is being torn down.
fn stream_dropped(code: VarInt) -> LinkError {
    LinkError::Closed { code: CloseCode::from_wire(code.into_inner()), reason: "it dropped a stream".into() }
}

impl From<WriteError> for LinkError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            WriteError::Stopped(code) => stream_dropped(code),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Protocol(error.to_string()),
        }
    }
}

impl From<ReadError> for LinkError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            ReadError::Reset(code) => stream_dropped(code),
            ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected => {
                Self::Protocol(error.to_string())
            }
        }
    }
}

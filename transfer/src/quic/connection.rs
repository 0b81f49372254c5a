//! A connection whose other end is known.

use std::net::SocketAddr;

use quinn::VarInt;

use crate::core::close::CloseCode;
use crate::identity::{NameError, Peer};

/// A connection whose both ends have shown their certificates. It carries one transfer.
///
/// Dropping it closes it with [`CloseCode::Cancelled`], unless it was closed with a better reason before.
#[derive(Debug)]
pub struct Connection {
    quic: quinn::Connection,
    peer: Peer,
}

impl Connection {
    pub(crate) fn new(quic: quinn::Connection) -> Result<Self, NameError> {
        let identity = quic.peer_identity().and_then(|chain| chain.downcast().ok());
        let chain: Box<Vec<rustls_pki_types::CertificateDer<'static>>> =
            identity.ok_or(NameError::NoCertificate)?;
        Ok(Self { peer: Peer::from_chain(&chain)?, quic })
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Where the other end is.
    pub fn remote_address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// Closes the connection: the other end is told `code` and `reason`.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        // Codes that come from the wire are below 2^62, and so are this crate's own.
        let code = VarInt::from_u64(code.to_wire()).unwrap_or(VarInt::MAX);
        self.quic.close(code, reason.as_bytes());
    }

    pub(crate) fn quic(&self) -> &quinn::Connection {
        &self.quic
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Without effect on a connection that is closed already.
        self.close(CloseCode::Cancelled, "the other end's application gave up");
    }
}

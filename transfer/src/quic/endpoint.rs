//! One UDP socket that dials and listens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ServerConfig, TokioRuntime};
use rustls::client::Resumption;
use tokio::time::timeout;

use super::{Connection, LinkError, Settings, socket};
use crate::core::ALPN;
use crate::core::close::CloseCode;
use crate::identity::{Identity, IdentityError, NameError};
use crate::receive::Listener;

/// A UDP socket shared by all transfers of a process, in both directions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    settings: Settings,
}

impl Endpoint {
    /// Binds `address`; port 0 takes a free one, `[::]` takes IPv4 too.
    ///
    /// Has to be called within a tokio runtime.
    pub fn bind(address: SocketAddr, identity: &Identity, settings: Settings) -> Result<Self, BindError> {
        // Sessions aren't resumed: a resumed one would not look at the other end's certificate again.
        let mut server = identity.server_config(&[ALPN])?;
        server.send_tls13_tickets = 0;
        let mut client = identity.client_config(&[ALPN])?;
        client.resumption = Resumption::disabled();

        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
        server.transport_config(settings.transport());
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
        client.transport_config(settings.transport());

        let failed = |source| BindError::Socket { address, source };
        let socket = socket::bind(address).map_err(failed)?;
        let mut quic =
            quinn::Endpoint::new(settings.endpoint(), Some(server), socket, Arc::new(TokioRuntime))
                .map_err(failed)?;
        quic.set_default_client_config(client);
        Ok(Self { quic, settings })
    }

    /// Where it is bound.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Dials the node `name` at `address`. The node has to show a certificate with that name.
    ///
    /// Whether the other end accepts this node's own certificate shows only when something is read from it: in
    /// [`Sender::open`](crate::Sender::open).
    pub async fn connect(&self, address: SocketAddr, name: &str) -> Result<Connection, ConnectError> {
        let connecting = self.quic.connect(address, name)?;
        let quic = timeout(self.settings.handshake_timeout, connecting)
            .await
            .map_err(|_| ConnectError::NoAnswer { address })?
            .map_err(|error| ConnectError::Link(error.into()))?;
        Ok(Connection::new(quic)?)
    }

    /// Takes connections from others.
    pub fn listen(&self) -> Listener {
        Listener::new(self.quic.clone(), self.settings.clone())
    }

    #[cfg(feature = "faults")]
    pub(crate) fn quic(&self) -> &quinn::Endpoint {
        &self.quic
    }

    /// Closes all connections and waits until the other ends have been told.
    pub async fn close(&self) {
        let code = quinn::VarInt::from_u64(CloseCode::ShuttingDown.to_wire()).unwrap_or(quinn::VarInt::MAX);
        self.quic.close(code, b"the endpoint shuts down");
        self.quic.wait_idle().await;
    }
}

/// An endpoint can't be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The identity doesn't make a TLS configuration.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS library lacks what QUIC's first packets need.
    #[error(transparent)]
    Cipher(#[from] NoInitialCipherSuite),
    /// The socket can't be bound.
    #[error("can't bind UDP {address}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A node can't be reached, or isn't who it should be.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It can't even be tried: the name is no DNS name, the address can't be reached from this socket.
    #[error(transparent)]
    Address(#[from] quinn::ConnectError),
    /// Nobody answers.
    #[error("no answer from {address}: is the agent up, and does UDP get through?")]
    NoAnswer {
        /// The address.
        address: SocketAddr,
    },
    /// The handshake failed.
    #[error(transparent)]
    Link(LinkError),
    /// The other end's certificate names no node.
    #[error(transparent)]
    Name(#[from] NameError),
}

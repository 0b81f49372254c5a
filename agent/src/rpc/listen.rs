//! Calls from other agents, over mutual TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tracing::info;
use transship_proto::{Fault, Reason};
use transship_transfer::{Identity, Peer};

use crate::host::failed;

/// How many handshakes may be under way at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections whose other end has shown a certificate of the same authority. One that fails is logged and skipped.
pub async fn listen(
    identity: &Identity,
    address: SocketAddr,
) -> Result<impl Stream<Item = io::Result<TlsStream<TcpStream>>> + use<>, Fault> {
    let config = identity
        .server_config(&[b"h2"])
        .map_err(|error| Fault::new(Reason::WrongCertificate, error.to_string()))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener =
        TcpListener::bind(address).await.map_err(failed(format_args!("listening on {address} (TCP)")))?;
    let handshakes = TcpListenerStream::new(listener).map(move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let tcp = tcp?;
            tcp.set_nodelay(true)?;
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await;
            shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    });
    Ok(handshakes.buffer_unordered(HANDSHAKES).filter_map(|shaken| async move {
        shaken.inspect_err(|error| info!(%error, "a caller was turned away in the handshake")).ok().map(Ok)
    }))
}

/// Who calls. Every connection of [`listen`] has a certificate; a call through anything else is refused.
pub fn caller<T>(request: &Request<T>) -> Result<Peer, Fault> {
    let nobody = || Fault::new(Reason::WrongCertificate, "the call came without a certificate");
    let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>().ok_or_else(nobody)?;
    let chain = info.peer_certs().ok_or_else(nobody)?;
    Peer::from_chain(&chain).map_err(|error| Fault::new(Reason::WrongCertificate, error.to_string()))
}

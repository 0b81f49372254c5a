//! Calls to an agent, over mutual TLS: how agents and the coordinator connect.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use transship_proto::{Fault, Reason};
use transship_transfer::{Identity, Peer};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it lives, and how long it may stay silent then.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A connection to an agent, and who it is.
#[derive(Debug, Clone)]
pub struct Dialled {
    /// For the calls.
    pub channel: Channel,
    /// The other end, as its certificate names it.
    pub peer: Peer,
}

/// Connects to the agent at `address` (HOST:PORT; its certificate must be for that host). The connection is made
/// anew by itself when it is lost.
pub async fn dial(identity: &Identity, address: &str) -> Result<Dialled, Fault> {
    let host = host_of(address)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Fault::new(Reason::InvalidArgument, format!("{host} is no host name or address; give HOST:PORT"))
    })?;
    connect_to(identity, address, name).await
}

/// Connects to the agent of `node` at `address` (HOST:PORT). Its certificate must be that node's; for which addresses it
/// is doesn't matter. The connection is made anew by itself when it is lost, and the name is checked every time.
pub async fn dial_node(identity: &Identity, address: &str, node: &str) -> Result<Dialled, Fault> {
    host_of(address)?;
    let name = ServerName::try_from(node.to_owned()).map_err(|_| {
        let what = format!("no certificate can bear the node's name {node:?}");
        Fault::new(Reason::InvalidArgument, what)
    })?;
    connect_to(identity, address, name).await
}

async fn connect_to(identity: &Identity, address: &str, name: ServerName<'static>) -> Result<Dialled, Fault> {
    let config = identity
        .client_config(&[b"h2"])
        .map_err(|error| Fault::new(Reason::WrongCertificate, error.to_string()))?;
    let tls = TlsConnector::from(Arc::new(config));

    // The first connection is made here, where its error still has its type.
    let first = connect(&tls, address, &name).await.map_err(|error| explain(address, &error))?;
    let chain = first.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::from_chain(chain).map_err(|error| {
        Fault::new(
            Reason::WrongCertificate,
            format!("the certificate of the agent at {address} can't be used: {error}"),
        )
    })?;

    let waiting = Arc::new(Mutex::new(Some(first)));
    let target = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let ready = waiting.lock().ok().and_then(|mut stream| stream.take());
        let (tls, target, name) = (tls.clone(), target.clone(), name.clone());
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => connect(&tls, &target, &name).await?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://agent")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| explain(address, &error))?;
    Ok(Dialled { channel, peer })
}

async fn connect(
    tls: &TlsConnector,
    address: &str,
    name: &ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let connecting = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tls.connect(name.clone(), tcp).await
    };
    tokio::time::timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn host_of(address: &str) -> Result<&str, Fault> {
    let wrong = || Fault::new(Reason::InvalidArgument, format!("{address:?} is no HOST:PORT"));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

/// The fault behind a failed connection or call to the agent at `address`: what TLS says of certificates is told apart.
pub fn explain(address: &str, error: &(dyn Error + 'static)) -> Fault {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls =
            error.downcast_ref::<rustls::Error>().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if let Some(fault) = tls.and_then(|tls| certificate_fault(address, tls)) {
            return fault;
        }
        cause = error.source();
    }
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = format!(
        "the agent at {address} can't be reached ({deepest}); is it running, and is that its address?"
    );
    Fault::new(Reason::TargetUnreachable, what)
}

fn certificate_fault(address: &str, error: &rustls::Error) -> Option<Fault> {
    let (reason, what) = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => (
            Reason::ExpiredCertificate,
            format!("the certificate of the agent at {address} has expired; issue it a new one"),
        ),
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => (
            Reason::ExpiredCertificate,
            format!("the agent at {address} says that this node's certificate has expired; issue a new one"),
        ),
        rustls::Error::InvalidCertificate(problem) => (
            Reason::WrongCertificate,
            format!(
                "the certificate of the agent at {address} isn't acceptable ({problem:?}); both must come from one authority and name their own address"
            ),
        ),
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => (
            Reason::WrongCertificate,
            format!(
                "the agent at {address} doesn't accept this node's certificate ({alert:?}); both must come from one authority"
            ),
        ),
        _ => return None,
    };
    Some(Fault::new(reason, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(host_of("10.0.0.1:7443").unwrap(), "10.0.0.1");
        assert_eq!(host_of("[fd00::1]:7443").unwrap(), "fd00::1");
        for wrong in ["node-b", "node-b:", "node-b:port", ":99999"] {
            assert_eq!(host_of(wrong).unwrap_err().reason, Reason::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn what_tls_says_of_certificates_is_told_apart() {
        let wrap = |error: rustls::Error| io::Error::other(error);
        let expired = wrap(rustls::Error::AlertReceived(AlertDescription::CertificateExpired));
        assert_eq!(explain("b:1", &expired).reason, Reason::ExpiredCertificate);
        let wrong = wrap(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(explain("b:1", &wrong).reason, Reason::WrongCertificate);
        let away = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(explain("b:1", &away).reason, Reason::TargetUnreachable);
    }
}

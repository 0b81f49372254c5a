//! From a packet to a request with a peer and a ticket.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::{AcceptError, AcceptFault, frame_code};
use super::incoming::Incoming;
use crate::core::close::CloseCode;
use crate::core::frame::Control;
use crate::quic::streams::FrameReader;
use crate::quic::{Connection, LinkError, Settings};

/// Most handshakes at once; further ones are refused and may be tried again.
const HANDSHAKES: usize = 32;

/// Takes connections. Dropping it drops the ones whose ticket hasn't come yet.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    settings: Settings,
    handshakes: JoinSet<Result<Incoming, AcceptError>>,
}

impl Listener {
    pub(crate) fn new(endpoint: quinn::Endpoint, settings: Settings) -> Self {
        Self { endpoint, settings, handshakes: JoinSet::new() }
    }

    /// The next request to receive a tree, or a connection that failed before it became one (worth a line in the log,
    /// nothing more). `None` once the endpoint is closed. Cancel-safe.
    pub async fn accept(&mut self) -> Option<Result<Incoming, AcceptError>> {
        loop {
            tokio::select! {
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) if self.handshakes.len() >= HANDSHAKES => incoming.refuse(),
                    Some(incoming) => {
                        self.handshakes.spawn(greet(incoming, self.settings.handshake_timeout));
                    }
                    None => return None,
                },
                Some(greeted) = self.handshakes.join_next() => match greeted {
                    Ok(greeted) => return Some(greeted),
                    // Only a panic: none is aborted while the listener lives.
                    Err(error) => tracing::error!(%error, "a handshake failed"),
                },
            }
        }
    }
}

async fn greet(incoming: quinn::Incoming, limit: Duration) -> Result<Incoming, AcceptError> {
    let remote = incoming.remote_address();
    let greeted = timeout(limit, ticket(incoming)).await;
    greeted.unwrap_or(Err(AcceptFault::TooSlow { limit })).map_err(|source| AcceptError { remote, source })
}

async fn ticket(incoming: quinn::Incoming) -> Result<Incoming, AcceptFault> {
    let quic = incoming.accept().map_err(LinkError::from)?.await.map_err(LinkError::from)?;
    let connection = Connection::new(quic)?;
    let (answers, control) = connection.quic().accept_bi().await.map_err(LinkError::from)?;
    let mut control = FrameReader::new(control);
    let open = async {
        control.preface().await?;
        control.next().await
    };
    let error = match open.await {
        Ok(Some(Control::Open { ticket })) => return Ok(Incoming::new(connection, answers, control, ticket)),
        Ok(Some(Control::Seal(_)) | None) => AcceptFault::NoTicket,
        Err(error) => error.into(),
    };
    match &error {
        AcceptFault::Frame(fault) => connection.close(frame_code(fault), &fault.to_string()),
        fault => connection.close(CloseCode::OutOfPlace, &fault.to_string()),
    }
    Err(error)
}

//! A request to receive a tree, for the application to judge.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use quinn::SendStream;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::drive::Drive;
use super::{Partial, ReceiveError, Receiving, Rest};
use crate::core::bytes::TransferBytes;
use crate::core::close::CloseCode;
use crate::core::frame::{Answer, Frame, PREFACE};
use crate::core::limits::Limits;
use crate::core::receive::ReceiveSession;
use crate::identity::Peer;
use crate::quic::streams::FrameReader;
use crate::quic::{Connection, LinkError};
use crate::store::Store;

/// A node that has shown who it is asks this one to take a tree. Dropping it refuses, without a reason.
#[derive(Debug)]
pub struct Incoming {
    // Dropped first: the sender is told of the end before streams are torn down under it.
    connection: Connection,
    answers: SendStream,
    control: FrameReader,
    ticket: Bytes,
}

impl Incoming {
    pub(super) fn new(
        connection: Connection,
        answers: SendStream,
        control: FrameReader,
        ticket: Bytes,
    ) -> Self {
        Self { connection, answers, control, ticket }
    }

    /// The node that asks.
    pub fn peer(&self) -> &Peer {
        self.connection.peer()
    }

    /// Why it asks: opaque here. It is as the sender wrote it, so it proves no more than the sender's own word.
    pub fn ticket(&self) -> &Bytes {
        &self.ticket
    }

    /// Where it asks from.
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Takes the tree into `dir`, which has to exist, be empty, and belong to this transfer alone.
    ///
    /// When the transfer fails the directory is left as it is then: it is the application's to resume or to remove.
    pub async fn accept(self, dir: &Path, limits: Limits) -> Result<Receiving, ReceiveError> {
        match Store::open(dir) {
            Ok(store) => self.receive(store, ReceiveSession::new(limits)).await,
            Err(error) => {
                self.connection.close(CloseCode::StoreFailed, &error.to_string());
                Err(error.into())
            }
        }
    }

    /// Takes the tree into the directory of an earlier try, after telling the sender what is there already.
    ///
    /// That the two tries are of one and the same transfer is for the application to know, by ticket and peer.
    pub async fn resume(self, partial: Partial) -> Result<Receiving, ReceiveError> {
        let Rest { store, held, limits } = *partial.0;
        self.receive(store, ReceiveSession::resume(limits, held)).await
    }

    /// Refuses: the sender gets [`SendError::Refused`](crate::SendError::Refused) with `code`, whose meaning is the
    /// application's own, and `reason`, which should say what to do.
    pub fn refuse(self, code: u16, reason: &str) {
        self.connection.close(CloseCode::Refused(code), reason);
    }

    async fn receive(mut self, store: Store, session: ReceiveSession) -> Result<Receiving, ReceiveError> {
        let mut answer = PREFACE.to_vec();
        for frame in session.held().frames().chain([Answer::Accepted]) {
            frame.encode(&mut answer);
            if answer.len() > 64 << 10 || frame == Answer::Accepted {
                self.answers.write_all(&answer).await.map_err(LinkError::from)?;
                answer.clear();
            }
        }
        let (report, progress) = watch::channel(TransferBytes::default());
        let drive = Drive::new(self.connection, self.answers, self.control, store, session, report);
        Ok(Receiving { progress, task: AbortOnDropHandle::new(tokio::spawn(drive.run())) })
    }
}

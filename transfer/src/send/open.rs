//! The beginning of a transfer: the ticket, and what the receiver holds already.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::lane::{Faults, write_lane};
use super::tradeoff::Tradeoff;
use super::{SendError, Sender, Shared};
use crate::core::bytes::TransferBytes;
use crate::core::close::CloseCode;
use crate::core::frame::{Answer, Control, Frame, MAX_TICKET_BYTES, PREFACE};
use crate::core::held::HeldChunks;
use crate::core::send::SendSession;
use crate::pool::Pool;
use crate::quic::streams::{FrameReader, StreamError};
use crate::quic::{Connection, LinkError};

/// Lanes of a transfer. One is fastest while nothing is lost; a second keeps small entries from waiting behind the
/// retransmissions of a large one.
const LANES: usize = 2;

/// Frames that wait for a lane's writer.
const QUEUE: usize = 4;

pub(super) async fn open(connection: Connection, ticket: Bytes, faults: Faults) -> Result<Sender, SendError> {
    if ticket.len() > MAX_TICKET_BYTES {
        return Err(SendError::TicketTooLong { bytes: ticket.len() });
    }
    let quic = connection.quic().clone();
    let (mut control, answers) = quic.open_bi().await.map_err(LinkError::from)?;
    let mut opening = PREFACE.to_vec();
    Control::Open { ticket }.encode(&mut opening);
    control.write_all(&opening).await.map_err(LinkError::from)?;

    let mut answers = FrameReader::new(answers);
    let held = match read_answer(&mut answers).await {
        Ok(held) => held,
        Err(error @ SendError::Answer(_)) => {
            connection.close(CloseCode::BadFrame, &error.to_string());
            return Err(error);
        }
        Err(error) => return Err(error),
    };

    let mut writers = JoinSet::new();
    let mut lanes = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        let stream = quic.open_uni().await.map_err(LinkError::from)?;
        let (queue, items) = mpsc::channel(QUEUE);
        writers.spawn(write_lane(items, stream, quic.clone(), faults.clone()));
        lanes.push(queue);
    }
    let shared = Shared {
        session: Mutex::new(SendSession::new(held)),
        lanes,
        progress: watch::Sender::new(TransferBytes::default()),
        buffers: Pool::default(),
        compressors: Pool::default(),
        tradeoff: Tradeoff::default(),
        quic,
    };
    Ok(Sender { connection, control, answers, shared: Arc::new(shared), writers })
}

async fn read_answer(answers: &mut FrameReader) -> Result<HeldChunks, SendError> {
    let mut held = HeldChunks::default();
    answers.preface().await?;
    loop {
        match answers.next().await? {
            Some(Answer::Held { path, first, hashes }) => held.insert_run(&path, first, &hashes)?,
            Some(Answer::Accepted) => return Ok(held),
            Some(Answer::Sealed { .. }) => {
                return Err(SendError::Answer("it sealed what wasn't sent".into()));
            }
            None => return Err(SendError::Answer("it ended without an answer".into())),
        }
    }
}

impl From<StreamError> for SendError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Link(error) => error.into(),
            StreamError::Frame(error) => Self::Answer(error.to_string()),
        }
    }
}

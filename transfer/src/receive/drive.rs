//! The task behind a [`Receiving`](super::Receiving): it owns everything that receives, and ends it all together.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use quinn::SendStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use super::error::{Failed, ReceiveError};
use super::lane::read_lane;
use super::place::{Job, work};
use super::shared::Shared;
use super::{Partial, Rest, VerifiedTree};
use crate::core::bytes::TransferBytes;
use crate::core::frame::{Answer, Control, Frame, FrameError, Seal};
use crate::core::limits::Limits;
use crate::core::receive::{ReceiveSession, Verified, Violation};
use crate::quic::streams::FrameReader;
use crate::quic::{Connection, LinkError, MAX_LANES};
use crate::store::Store;

pub(super) struct Drive {
    // Dropped first: the sender is told of the end before streams are torn down under it.
    connection: Connection,
    answers: SendStream,
    control: FrameReader,
    limits: Limits,
    shared: Arc<Shared>,
}

/// What ended within a transfer.
enum Ended {
    Lane,
    Worker,
}

impl Drive {
    pub fn new(
        connection: Connection,
        answers: SendStream,
        control: FrameReader,
        store: Store,
        session: ReceiveSession,
        progress: watch::Sender<TransferBytes>,
    ) -> Self {
        let limits = session.limits().clone();
        let shared = Arc::new(Shared::new(session, store, progress));
        Self { connection, answers, control, limits, shared }
    }

    pub async fn run(mut self) -> Result<VerifiedTree, Failed> {
        let mut tasks = JoinSet::new();
        let outcome = self.receive(&mut tasks).await;
        if let Err(error) = &outcome
            && let Some(code) = error.code()
        {
            self.connection.close(code, &error.to_string());
        }
        // Nobody writes into the store any more once this returns.
        tasks.shutdown().await;
        match outcome {
            Ok(tree) => Ok(tree),
            Err(error) => Err(Failed { error, partial: self.partial() }),
        }
    }

    async fn receive(
        &mut self,
        tasks: &mut JoinSet<Result<Ended, ReceiveError>>,
    ) -> Result<VerifiedTree, ReceiveError> {
        let seal = self.collect(tasks).await?;
        // The lanes are at their end, and the workers end when they have worked off what is left.
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(ReceiveError::worker)??;
        }
        let verified = self.shared.session().verify(&seal)?;
        let verified = self.settle(verified).await?;

        let mut answer = Vec::new();
        Answer::Sealed { root: verified.root }.encode(&mut answer);
        self.answers.write_all(&answer).await.map_err(LinkError::from)?;
        self.answers.finish().ok();
        // Until the sender has it, or is gone: either way the tree is here and whole.
        self.answers.stopped().await.ok();
        let Verified { root, entries, .. } = verified;
        let bytes = self.shared.session().bytes();
        Ok(VerifiedTree { dir: self.shared.store.path().into(), root, entries, bytes })
    }

    /// Takes lanes until the sender has sealed the tree and every lane has ended.
    async fn collect(
        &mut self,
        tasks: &mut JoinSet<Result<Ended, ReceiveError>>,
    ) -> Result<Seal, ReceiveError> {
        let cores = available_parallelism().map_or(1, usize::from);
        let (jobs, queue) = mpsc::channel::<Job>(2 * cores);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..cores {
            let (queue, shared) = (Arc::clone(&queue), Arc::clone(&self.shared));
            tasks.spawn_blocking(move || work(&queue, &shared).map(|()| Ended::Worker));
        }
        drop(queue);

        let mut control = pin!(read_seal(&mut self.control));
        let mut silence = Silence::new(self.limits.silence);
        let (mut opened, mut ended) = (0, 0);
        let mut seal: Option<Seal> = None;
        loop {
            match seal {
                Some(seal) if opened > seal.lanes => {
                    return Err(Violation::TooManyLanes { limit: seal.lanes }.into());
                }
                Some(seal) if ended == seal.lanes => return Ok(seal),
                _ => {}
            }
            tokio::select! {
                read = &mut control, if seal.is_none() => seal = Some(read?),
                stream = self.connection.quic().accept_uni() => {
                    opened += 1;
                    if opened > MAX_LANES {
                        return Err(Violation::TooManyLanes { limit: MAX_LANES }.into());
                    }
                    let (stream, jobs, shared) = (stream.map_err(LinkError::from)?, jobs.clone(), Arc::clone(&self.shared));
                    tasks.spawn(async move { read_lane(stream, jobs, &shared).await.map(|()| Ended::Lane) });
                }
                Some(task) = tasks.join_next() => match task.map_err(ReceiveError::worker)?? {
                    Ended::Lane => ended += 1,
                    Ended::Worker => {}
                },
                () = silence.broken(&self.shared) => {
                    return Err(ReceiveError::Silent { silence: self.limits.silence });
                }
            }
        }
    }

    /// Removes what isn't of the tree, and gives the files their sizes and modes.
    async fn settle(&self, verified: Verified) -> Result<Verified, ReceiveError> {
        let shared = Arc::clone(&self.shared);
        let settle = move || {
            verified.leftovers.iter().try_for_each(|path| shared.store.remove(path))?;
            verified.entries.iter().try_for_each(|entry| shared.store.settle(entry))?;
            Ok(verified)
        };
        tokio::task::spawn_blocking(settle).await.map_err(ReceiveError::worker)?
    }

    fn partial(self) -> Option<Partial> {
        let (session, store) = Arc::into_inner(self.shared)?.into_parts();
        let held = session.into_held();
        Some(Partial(Box::new(Rest { store, held, limits: self.limits })))
    }
}

async fn read_seal(control: &mut FrameReader) -> Result<Seal, ReceiveError> {
    match control.next().await? {
        Some(Control::Seal(seal)) if seal.lanes <= MAX_LANES => Ok(seal),
        Some(Control::Seal(_)) => Err(Violation::TooManyLanes { limit: MAX_LANES }.into()),
        Some(Control::Open { .. }) | None => Err(FrameError::Truncated.into()),
    }
}

/// Watches for a sender that says nothing.
struct Silence {
    ticks: tokio::time::Interval,
    frames: u64,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self { ticks: interval_at(Instant::now() + limit, limit), frames: 0 }
    }

    /// Returns when no frame has come for at least one interval although nothing is being worked on. Cancel-safe.
    async fn broken(&mut self, shared: &Shared) {
        loop {
            self.ticks.tick().await;
            let frames = shared.frames();
            if frames == self.frames && shared.session().in_hand() == 0 {
                return;
            }
            self.frames = frames;
        }
    }
}

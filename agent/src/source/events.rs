//! What whoever asked for a migration hears of it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use transship_decision::source::Step;
use transship_proto::v1::migrate_event::{Event, PhaseBegun, Prepared, Started};
use transship_proto::v1::{Bytes, MigrateEvent, Outcome, Phase, Timing};

use crate::pods::{Handover, Standing};

/// Whom events are told to.
#[derive(Debug)]
pub enum Audience {
    /// Nobody: it was taken up after its agent had died.
    Nobody,
    /// Whoever asked for it and listens.
    Caller(mpsc::Sender<MigrateEvent>),
    /// Whoever follows a Pod's migration, now or later.
    Followers(Arc<Handover>),
}

/// Tells its audience, and keeps the times. A listener that is gone or slow doesn't hold anything up.
#[derive(Debug)]
pub struct Events {
    audience: Audience,
    begun: Instant,
    timings: Vec<Timing>,
    frozen_at: Option<u64>,
    freeze_us: u64,
}

impl Events {
    /// Events for that audience, with times that count from now.
    pub fn new(audience: Audience) -> Self {
        Self { audience, begun: Instant::now(), timings: Vec::new(), frozen_at: None, freeze_us: 0 }
    }

    /// The migration has a name and a target.
    pub fn started(&self, started: Started) {
        self.tell(Event::Started(started));
    }

    /// Its plan lies on the disk.
    pub fn planned(&self) {
        if let Audience::Followers(handover) = &self.audience {
            handover.has_plan();
        }
    }

    /// What a cancel can do from now on.
    pub fn stands(&self, standing: Standing) {
        if let Audience::Followers(handover) = &self.audience {
            handover.stands(standing);
        }
    }

    /// The target expects the Pod: its kubelet may come.
    pub fn prepared(&self) {
        self.tell(Event::Prepared(Prepared {}));
    }

    /// How much has been moved so far.
    pub fn progress(&self, bytes: Bytes) {
        self.tell(Event::Progress(bytes));
    }

    /// A step begins: perhaps a phase does.
    pub fn step(&mut self, step: Step) {
        let Some(phase) = phase_of(step) else { return };
        let at_us = self.now();
        if self.timings.last().is_some_and(|last| last.phase() == phase) {
            return;
        }
        self.close(at_us);
        if phase == Phase::Freeze {
            self.frozen_at = Some(at_us);
        }
        self.timings.push(Timing { phase: phase.into(), begin_us: at_us, end_us: at_us });
        self.tell(Event::Phase(PhaseBegun { phase: phase.into(), at_us }));
    }

    /// The workload runs again, here or there.
    pub fn runs_again(&mut self) {
        if let Some(at) = self.frozen_at.take() {
            self.freeze_us = self.now() - at;
        }
    }

    /// An outcome, completed by the times so far.
    pub fn timed(&self, outcome: Outcome) -> Outcome {
        let mut timings = self.timings.clone();
        if let Some(last) = timings.last_mut() {
            last.end_us = self.now();
        }
        Outcome { freeze_us: self.freeze_us, timings, ..outcome }
    }

    /// It is over.
    pub fn over(&self, outcome: Outcome) {
        self.tell(Event::Outcome(outcome));
    }

    fn close(&mut self, at_us: u64) {
        if let Some(last) = self.timings.last_mut() {
            last.end_us = at_us;
        }
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX)
    }

    fn tell(&self, event: Event) {
        let event = MigrateEvent { event: Some(event) };
        match &self.audience {
            Audience::Nobody => {}
            Audience::Followers(handover) => handover.tell(event),
            Audience::Caller(listener) => {
                if let Err(error) = listener.try_send(event) {
                    tracing::debug!(%error, "a listener missed an event");
                }
            }
        }
    }
}

/// The phase that a person sees; steps of the way back have none.
fn phase_of(step: Step) -> Option<Phase> {
    Some(match step {
        Step::Preflight => Phase::Preflight,
        Step::Prepare | Step::PreCopy | Step::StartWatchdog | Step::RaiseFence => Phase::Prepare,
        Step::Freeze => Phase::Freeze,
        Step::Capture => Phase::Capture,
        Step::Seal => Phase::Transfer,
        Step::AwaitHeld => Phase::Restore,
        Step::CheckStill | Step::Decide(transship_decision::Verdict::Released) => Phase::Decide,
        Step::Go => Phase::Resume,
        Step::Kill | Step::Carry | Step::Retire => Phase::Retire,
        _ => return None,
    })
}

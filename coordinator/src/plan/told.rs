//! What the source's agent has told of a migration.

use transship_proto::v1::migrate_event::Event;
use transship_proto::v1::{Bytes, MigrateEvent, Outcome, Phase};

use crate::target::Refusal;

/// Everything that matters of an agent's events, in whatever order they came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    /// The target's agent expects the target Pod.
    pub prepared: bool,
    /// The furthest phase that has begun.
    pub phase: Option<Phase>,
    /// How much has been moved.
    pub bytes: Option<Bytes>,
    /// Things that the workload may notice.
    pub warnings: Vec<String>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why the agent tells nothing now.
    pub trouble: Option<Trouble>,
}

/// Why an agent tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It doesn't know the migration.
    Unknown,
    /// It can't be asked.
    Unreachable(Refusal),
}

impl Told {
    /// One event more.
    pub fn hear(&mut self, event: MigrateEvent) {
        self.trouble = None;
        match event.event {
            Some(Event::Started(started)) => self.warnings = started.warnings,
            Some(Event::Phase(begun)) => self.phase = self.phase.max(Some(begun.phase())),
            Some(Event::Progress(bytes)) => self.bytes = Some(bytes),
            Some(Event::Prepared(_)) => self.prepared = true,
            Some(Event::Outcome(outcome)) => self.outcome = Some(outcome),
            // A newer agent may tell more than this version knows.
            None => {}
        }
    }

    /// Whether the target Pod may be scheduled. Events may have been missed: what is frozen has been prepared.
    pub fn may_go(&self) -> bool {
        self.prepared || self.phase.is_some_and(|phase| phase >= Phase::Freeze)
    }
}

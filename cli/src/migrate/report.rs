//! What became of a migration: for people, and as JSON.

use std::fmt;

use serde::{Serialize, Serializer};
use transship_proto::phase_name;
use transship_proto::v1::migrate_event::{PhaseBegun, Started};
use transship_proto::v1::{self, Outcome, Phase};

use super::failure::Failure;
use transship_terminal::units::{ms, span};
use transship_terminal::{Exit, Migrated};

/// The outcome of a migration. Its fields are the keys of the JSON; what isn't known is empty or 0.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The container runs on the target.
    pub ok: bool,
    migration: String,
    container: String,
    source: String,
    target: String,
    /// From the request to freeze to the target's word that it runs.
    freeze_ms: f64,
    phases_ms: PhasesMs,
    /// The same, with when each phase began and ended, since the call.
    phases: Vec<Timing>,
    bytes: Bytes,
    reason: String,
    message: String,
    /// Refused before anything was touched.
    refused: bool,
    target_container: String,
    target_ip: String,
    criu_log: String,
    warnings: Vec<String>,

    #[serde(skip)]
    frozen: bool,
    #[serde(skip)]
    ending: Ending,
}

/// How much the agent has told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// How it ended.
    Told,
    /// Not how it ended.
    #[default]
    Unknown,
    /// Not how it ended, within the time to wait.
    TimedOut,
}

#[derive(Debug, Serialize)]
struct Timing {
    name: String,
    begin_ms: f64,
    end_ms: f64,
}

/// Each phase's length by its name, in the phases' order.
#[derive(Debug, Default)]
struct PhasesMs(Vec<(String, f64)>);

impl Serialize for PhasesMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, length)| (name, length)))
    }
}

#[derive(Debug, Default, Serialize)]
struct Bytes {
    total: u64,
    sent: u64,
    zero: u64,
    deduplicated: u64,
}

impl From<v1::Bytes> for Bytes {
    fn from(bytes: v1::Bytes) -> Self {
        let v1::Bytes { total, sent, zero, deduplicated } = bytes;
        Self { total, sent, zero, deduplicated }
    }
}

impl Report {
    /// Of a migration that has just been asked for.
    pub fn new(container: &str) -> Self {
        Self { container: container.into(), ..Self::default() }
    }

    /// The agent has taken it up.
    pub fn started(&mut self, started: Started) {
        self.migration = started.migration;
        self.container = started.container;
        self.source = started.source_node;
        self.target = started.target_node;
        self.warnings = started.warnings;
    }

    /// A phase has begun.
    pub fn phase(&mut self, begun: PhaseBegun) {
        self.frozen |= begun.phase() == Phase::Freeze;
    }

    /// The agent's last word.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.ending = Ending::Told;
        self.ok = outcome.migrated;
        self.freeze_ms = ms(outcome.freeze_us);
        self.phases = outcome
            .timings
            .iter()
            .map(|timing| Timing {
                name: phase_name(timing.phase()),
                begin_ms: ms(timing.begin_us),
                end_ms: ms(timing.end_us),
            })
            .collect();
        let length = |timing: &v1::Timing| ms(timing.end_us.saturating_sub(timing.begin_us));
        self.phases_ms = PhasesMs(
            outcome.timings.iter().map(|timing| (phase_name(timing.phase()), length(timing))).collect(),
        );
        self.bytes = outcome.bytes.unwrap_or_default().into();
        self.reason = outcome.reason;
        self.message = outcome.message;
        self.refused = outcome.refused;
        self.target_container = outcome.target_container;
        self.target_ip = outcome.target_ip;
        self.criu_log = outcome.criu_log;
    }

    /// There is no outcome.
    pub fn failure(&mut self, failure: Failure) {
        self.reason = failure.reason().into();
        self.message = failure.to_string();
        self.ending = match failure {
            // Without an agent, nothing has begun.
            Failure::Told(_) | Failure::NoAgent { .. } => Ending::Told,
            Failure::AgentLost(_) | Failure::Interrupted => Ending::Unknown,
            Failure::TimedOut(_) => Ending::TimedOut,
        };
        self.refused = matches!(failure, Failure::Told(_)) && !self.frozen;
    }

    /// How long each phase took, by name, in milliseconds.
    pub fn phase_lengths(&self) -> impl Iterator<Item = (&str, f64)> {
        self.phases_ms.0.iter().map(|(name, length)| (name.as_str(), *length))
    }

    /// What the shell is told.
    pub fn exit(&self) -> Exit {
        match self {
            Self { ok: true, .. } => Exit::Done,
            Self { refused: true, .. } => Exit::Refused,
            Self { ending: Ending::TimedOut, .. } => Exit::TimedOut,
            _ => Exit::Failed,
        }
    }

    fn total_ms(&self) -> f64 {
        self.phases.iter().map(|phase| phase.end_ms).fold(0.0, f64::max)
    }
}

impl fmt::Display for Report {
    /// One line if it went well, else a paragraph: what, why, what to do, where to read on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ok {
            let line = Migrated {
                what: &self.container,
                source: &self.source,
                target: &self.target,
                freeze_ms: self.freeze_ms,
                state: self.bytes.total,
                sent: self.bytes.sent,
                took_ms: self.total_ms(),
            };
            return line.fmt(f);
        }
        let verb = match self.ending {
            Ending::Told if self.refused => "can't be migrated",
            Ending::Told => "was not migrated",
            Ending::Unknown | Ending::TimedOut => "may not have been migrated",
        };
        write!(f, "{} {verb} ({})\n  {}", self.container, self.reason, self.message)?;
        if self.refused {
            write!(f, "\n  Nothing was touched.")?;
        }
        if self.freeze_ms > 0.0 {
            write!(f, "\n  It stood still for {}.", span(self.freeze_ms))?;
        }
        if !self.criu_log.is_empty() {
            write!(f, "\n  CRIU's log: {}", self.criu_log)?;
        }
        Ok(())
    }
}

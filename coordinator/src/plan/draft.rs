//! The status that a plan leads to.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use transship_proto::phase_name;
use transship_proto::v1::{self, Outcome};

use crate::api::{
    Bytes, ConditionType, FINALIZER, Phase, PodMigration, PodMigrationStatus, condition, set_condition,
};
use crate::target::Refusal;

/// The reason of what somebody has asked to stop.
pub const CANCELLED: &str = "Cancelled";

/// A status while it is being changed.
#[derive(Debug)]
pub struct Draft<'a> {
    pub migration: &'a PodMigration,
    pub now: &'a Time,
    pub status: PodMigrationStatus,
}

impl<'a> Draft<'a> {
    pub fn new(migration: &'a PodMigration, now: &'a Time) -> Self {
        let mut status = migration.status.clone().unwrap_or_default();
        status.observed_generation = migration.metadata.generation;
        Self { migration, now, status }
    }

    /// A condition's status, if it has been set.
    pub fn standing(&self, kind: ConditionType) -> Option<&str> {
        condition(&self.status, kind).map(|condition| condition.status.as_str())
    }

    pub fn is(&self, kind: ConditionType, status: &str) -> bool {
        self.standing(kind) == Some(status)
    }

    pub fn set(&mut self, kind: ConditionType, status: &str, reason: &str, message: &str) {
        set_condition(&mut self.status, kind, status, reason, message, self.now);
    }

    /// What it waits for, or what went wrong.
    pub fn say(&mut self, what: &Refusal) {
        self.status.reason = Some(what.reason.clone());
        self.status.message = Some(what.message.clone());
    }

    /// Nothing is in its way any more.
    pub fn say_nothing(&mut self) {
        self.status.reason = None;
        self.status.message = None;
    }

    /// Refused before anything was touched on either node.
    pub fn refuse(&mut self, why: &Refusal) {
        self.set(ConditionType::Preflighted, "False", &why.reason, &why.message);
        self.keep(why);
    }

    /// The source stays; what has been made for the target goes.
    pub fn keep(&mut self, why: &Refusal) {
        self.say(why);
        self.set(ConditionType::Released, "False", &why.reason, &why.message);
    }

    /// The target lives.
    pub fn released(&mut self, message: &str) {
        self.say_nothing();
        self.status.phase = Phase::Released;
        self.set(ConditionType::Prepared, "True", "Expected", "");
        self.set(ConditionType::Released, "True", "Released", message);
    }

    /// The agent's last word. `stop`: why it was asked to stop, if it was.
    pub fn outcome(&mut self, outcome: &Outcome, stop: Option<Refusal>) {
        self.status.freeze_duration =
            (outcome.freeze_us > 0).then(|| Duration::from_micros(outcome.freeze_us).into());
        self.bytes(outcome.bytes);
        for timing in &outcome.timings {
            let length = Duration::from_micros(timing.end_us.saturating_sub(timing.begin_us));
            self.status.phase_durations.insert(phase_name(timing.phase()), length.into());
        }
        if outcome.migrated {
            return self.released("the target's processes run");
        }
        let told = Refusal::new(&*outcome.reason, with_log(outcome));
        let why = stop.filter(|_| outcome.reason == CANCELLED).unwrap_or(told);
        if outcome.refused { self.refuse(&why) } else { self.keep(&why) }
    }

    pub fn bytes(&mut self, bytes: Option<v1::Bytes>) {
        let Some(bytes) = bytes else { return };
        let signed = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        self.status.bytes = Some(Bytes {
            total: signed(bytes.total),
            sent: signed(bytes.sent),
            deduplicated: signed(bytes.deduplicated),
            zero: signed(bytes.zero),
        });
    }

    /// Everything is over.
    pub fn complete(&mut self, phase: Phase, reason: &str, message: &str) {
        self.status.phase = phase;
        self.status.completion_time.get_or_insert_with(|| self.now.clone());
        self.set(ConditionType::Complete, "True", reason, message);
    }

    /// Nobody knows how it ended: everything is left as it is, for a person to look at.
    pub fn lost(&mut self, label: &str) {
        let node = |node: Option<String>| node.unwrap_or_default();
        let (from, to) = (node(self.source_node()), node(self.target_node()));
        let message = format!(
            "the agents of {from} and {to} don't know this migration any more, so both Pods were left as they are: \
             delete the one whose processes don't run, and take the label {label} from the other"
        );
        let why = Refusal::new("AgentLost", message);
        self.say(&why);
        self.set(ConditionType::Released, "Unknown", &why.reason, &why.message);
        self.complete(Phase::Failed, &why.reason, &why.message);
    }

    pub fn source_node(&self) -> Option<String> {
        self.status.source.as_ref().map(|source| source.node.clone())
    }

    pub fn target_node(&self) -> Option<String> {
        self.status.target.as_ref().map(|target| target.node.clone())
    }

    /// Whether the migration's object waits for the coordinator before it goes.
    pub fn is_held(&self) -> bool {
        self.migration.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    pub fn is_deleted(&self) -> bool {
        self.migration.metadata.deletion_timestamp.is_some()
    }

    /// How long ago a condition got its status.
    pub fn since(&self, kind: ConditionType) -> Option<SignedDuration> {
        condition(&self.status, kind).map(|condition| passed(&condition.last_transition_time, self.now))
    }

    /// How much of `spec.timeout` is left. The wait for a turn doesn't count; none: it waits.
    pub fn time_left(&self) -> Option<Duration> {
        let begin = match condition(&self.status, ConditionType::Queued) {
            Some(queued) if queued.status == "True" => return None,
            Some(queued) => &queued.last_transition_time,
            None => self.status.start_time.as_ref()?,
        };
        let passed = Duration::try_from(passed(begin, self.now)).unwrap_or_default();
        Some(Duration::from(self.migration.spec.timeout).saturating_sub(passed))
    }

    /// Why it has to stop, whatever else is known.
    pub fn stop(&self) -> Option<Refusal> {
        if self.is_deleted() {
            return Some(Refusal::new(CANCELLED, "the migration's object was deleted"));
        }
        if self.migration.spec.cancel {
            return Some(Refusal::new(CANCELLED, "it was asked to stop, by spec.cancel"));
        }
        let over = self.time_left().is_some_and(|left| left.is_zero());
        over.then(|| {
            let what = format!("it was not done within {} (spec.timeout)", self.migration.spec.timeout);
            Refusal::new("TimedOut", what)
        })
    }
}

pub fn passed(since: &Time, now: &Time) -> SignedDuration {
    now.0.duration_since(since.0)
}

fn with_log(outcome: &Outcome) -> String {
    if outcome.criu_log.is_empty() {
        return outcome.message.clone();
    }
    format!("{}; CRIU's log: {}", outcome.message, outcome.criu_log)
}

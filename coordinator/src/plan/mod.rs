//! What is to be done next for a migration: a function from what is known to one step.
//!
//! ```text
//! before      hold, survey, preflight, take a turn, mark, create, begin
//! under way   follow the source's agent; ungate when the target's agent expects the Pod; cancel when it has to stop
//! settle      released: make ready, adopt, release, delete the source, forget
//!             kept:     delete the target, unmark, forget
//! ```
//!
//! A step may be repeated, and its answer may be lost: where a migration stands is in the objects' labels, the status and
//! the agents, never in the coordinator's memory. [`plan`] is asked before each step, [`answered`] after it.

mod answer;
mod before;
mod draft;
mod news;
mod settle;
mod told;
mod under_way;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;
use transship_proto::v1::{BeginRequest, PreflightRequest};

use crate::api::{ConditionType, PodMigration, PodMigrationStatus};
use crate::queue::Route;

pub use answer::{Answer, Begun, Cancelled, answered};
pub use news::{News, news};
pub use told::{Told, Trouble};

use draft::Draft;

/// How long nothing is done where only a change elsewhere brings a migration on; changes are told at once, this is for
/// one that was missed.
const IDLE: Duration = Duration::from_secs(20);

/// What is known of a migration at one moment.
#[derive(Debug)]
pub struct Observed<'a> {
    /// Its object.
    pub migration: &'a PodMigration,
    /// The Pod that `spec.podRef` names, whichever that is by now.
    pub source: Option<&'a Pod>,
    /// The Pod that bears the target's name.
    pub target: Option<&'a Pod>,
    /// What the source's agent has told, if it has begun.
    pub told: &'a Told,
    /// The time, in whole seconds as objects have it.
    pub now: &'a Time,
}

/// What to write, and what to do then.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The status as it should be before the step is done.
    pub status: PodMigrationStatus,
    /// The step.
    pub step: Step,
}

/// One thing to be done. All of them may be done twice.
#[derive(Debug, Clone, PartialEq, strum::AsRefStr)]
pub enum Step {
    /// Nothing but writing the status; then plan again.
    Record,
    /// Put the finalizer on the migration.
    Hold,
    /// Look at all nodes and choose one.
    Survey,
    /// Ask the source's agent for every check of both nodes. The target's address is to be filled in.
    Preflight(PreflightRequest),
    /// Ask whether one more migration may be under way.
    TakeTurn(Route),
    /// Put the handover label on the source, and keep evictions away from both Pods.
    Mark,
    /// Make the target Pod.
    Create(Box<Pod>),
    /// Ask the source's agent to begin. The target's address is to be filled in.
    Begin(BeginRequest),
    /// Wait for what the source's agent tells next.
    Follow,
    /// Ask the source's agent for the end.
    Cancel,
    /// Ask the target's agent how far it is: the source's doesn't know the migration any more.
    AskTarget,
    /// Take the scheduling gate from the target.
    Ungate,
    /// Patch the target's status: its readiness gate, and Ready with it.
    MakeReady(Value),
    /// Patch the target: it is its owner's now.
    Adopt(Value),
    /// Patch the source: it is nobody's now.
    Release(Value),
    /// Delete the source, with its grace period.
    DeleteSource,
    /// Delete the target.
    DeleteTarget,
    /// Take the handover label from the source.
    UnmarkSource,
    /// Take the handover label from the target.
    UnmarkTarget,
    /// Let evictions come again, and let the agents of these nodes forget the migration.
    Forget(Vec<String>),
    /// Take the finalizer from the migration.
    Free,
    /// Delete the migration: it has been over for long enough.
    Expire,
    /// Nothing for so long, unless something changes.
    Wait(Duration),
}

/// The next step.
pub fn plan(observed: &Observed<'_>) -> Planned {
    let mut draft = Draft::new(observed.migration, observed.now);
    let step = next(observed, &mut draft);
    Planned { status: draft.status, step }
}

fn next(observed: &Observed<'_>, draft: &mut Draft<'_>) -> Step {
    if draft.is(ConditionType::Complete, "True") {
        return settle::finished(observed, draft);
    }
    match draft.standing(ConditionType::Released) {
        Some("True") => settle::hand_over(observed, draft),
        Some("False") => settle::clean_up(observed, draft),
        _ if draft.standing(ConditionType::Begun).is_some() => under_way::next(observed, draft),
        _ => before::next(observed, draft),
    }
}

#[cfg(test)]
mod tests;

//! What has become of it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the coordinator has seen and done. Written by it alone.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodMigrationStatus {
    /// Where it stands.
    pub phase: Phase,
    /// The `metadata.generation` that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the Pod is, or was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
    /// Where it goes, or went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,
    /// Nodes that were looked at and not taken, each with why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Candidate>,
    /// Steps that are over, or that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Sizes of the state that was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// From the freeze's request to the target's word that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_duration: Option<Duration>,
    /// How long each part took, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub phase_durations: BTreeMap<String, Duration>,
    /// Things that the workload may notice, such as connections that will be reset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// CamelCase and stable: why it failed, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened, to what, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the coordinator took it up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended, well or badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
}

/// Where a migration stands.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    JsonSchema,
    Serialize,
    Deserialize,
    strum::Display,
)]
pub enum Phase {
    /// Not taken up yet.
    #[default]
    Pending,
    /// Checked by both nodes, and the destination chosen. Nothing is changed.
    Preflight,
    /// The target Pod is made and its node gets ready.
    Preparing,
    /// The source stands still and is captured.
    Frozen,
    /// The target is restored and held still.
    Restoring,
    /// Decided: the target runs. The cluster's objects follow.
    Released,
    /// The Pod runs on its new node and the old one is gone.
    Succeeded,
    /// The Pod runs on where it was.
    Failed,
    /// Stopped because somebody asked for that; the Pod runs on where it was.
    Cancelled,
}

impl Phase {
    /// Whether nothing comes after it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The Pod that is moved.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its node.
    pub node: String,
    /// Its UID.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
}

/// The Pod that it becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Its node.
    pub node: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Its UID.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// A node that was not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// CamelCase and stable.
    pub reason: String,
    /// What stands in the way and how to mend it.
    pub message: String,
}

/// Sizes of a state, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bytes {
    /// All content, as it lies on the target.
    pub total: i64,
    /// What crossed the wire, after compression.
    pub sent: i64,
    /// What the target had already.
    pub deduplicated: i64,
    /// What was all zero and so was not sent.
    pub zero: i64,
}

/// The conditions that a migration goes through. The name of a variant is its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::AsRefStr)]
pub enum ConditionType {
    /// Both nodes have agreed; or refused, with the reason.
    Preflighted,
    /// `True`: it waits for its turn, for the limit that the reason names. `False`: it has had it.
    Queued,
    /// The source's agent has been told to begin. `Unknown`: it was asked and hasn't answered.
    Begun,
    /// The target's agent expects the target Pod, which may go to its node.
    Prepared,
    /// The decision: `True` lets the target live, `False` the source. `Unknown`: nobody is left who knows.
    Released,
    /// The target Pod is ready and belongs to its owner.
    HandedOver,
    /// Everything is over. `False` while a failed or cancelled migration is still cleaned up after.
    Complete,
}

/// The condition of that type, if it has been set.
pub fn condition(status: &PodMigrationStatus, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.as_ref())
}

/// Sets a condition; its transition time changes only when its status does.
pub fn set_condition(
    status: &mut PodMigrationStatus,
    kind: ConditionType,
    is: &str,
    reason: &str,
    message: &str,
    now: &Time,
) {
    let before = condition(status, kind);
    let since = before.filter(|before| before.status == is).map(|before| before.last_transition_time.clone());
    let new = Condition {
        type_: kind.as_ref().into(),
        status: is.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: status.observed_generation,
        last_transition_time: since.unwrap_or_else(|| now.clone()),
    };
    match status.conditions.iter_mut().find(|condition| condition.type_ == kind.as_ref()) {
        Some(place) => *place = new,
        None => status.conditions.push(new),
    }
}

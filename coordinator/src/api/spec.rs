//! What is asked for.

use std::collections::BTreeMap;
use std::time;

use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PodMigrationStatus;

/// A duration as Go writes it. The API server must refuse any other: one object that can't be read would stop the watch
/// of all.
const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";

/// What is asked for. Everything but `cancel` and `ttlAfterFinished` is fixed once it is created.
#[derive(Debug, Clone, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "transship.io",
    version = "v1alpha1",
    kind = "PodMigration",
    plural = "podmigrations",
    shortname = "pmig",
    doc = "A request to move a running Pod to another node without losing its memory, and what has become of it.",
    namespaced,
    derive = "PartialEq",
    status = "PodMigrationStatus",
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.podRef.name"),
    printcolumn(name = "Source", type_ = "string", json_path = ".status.source.node"),
    printcolumn(name = "Target", type_ = "string", json_path = ".status.target.node"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Freeze", type_ = "string", json_path = ".status.freezeDuration"),
    printcolumn(name = "Sent", type_ = "string", json_path = ".status.bytes.sent"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Capture", type_ = "string", json_path = ".spec.capture", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("the name becomes a label's value: at most 63 characters")
)]
#[x_kube(
    validation = Rule::new("self.podRef == oldSelf.podRef && self.capture == oldSelf.capture && self.freezeBudget == oldSelf.freezeBudget && self.timeout == oldSelf.timeout && self.dryRun == oldSelf.dryRun && has(self.targetNode) == has(oldSelf.targetNode) && (!has(self.targetNode) || self.targetNode == oldSelf.targetNode) && has(self.nodeSelector) == has(oldSelf.nodeSelector) && (!has(self.nodeSelector) || self.nodeSelector == oldSelf.nodeSelector)")
        .message("only cancel and ttlAfterFinished may be changed: delete this migration and create another"),
    validation = Rule::new("!oldSelf.cancel || self.cancel").message("a cancelled migration stays cancelled")
)]
#[serde(rename_all = "camelCase")]
pub struct PodMigrationSpec {
    /// The Pod that is to be moved, in the migration's own namespace.
    pub pod_ref: PodReference,
    /// The node that it moves to. Without it one is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub target_node: Option<String>,
    /// Labels that a chosen node must have, beside what the Pod itself asks for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// How the state is captured.
    #[serde(default)]
    pub capture: Capture,
    /// How long the workload may stand still before the migration gives up and it runs on where it was.
    #[serde(default = "freeze_budget")]
    #[schemars(extend("pattern" = DURATION))]
    pub freeze_budget: Duration,
    /// How long the whole may take before it is given up, as long as nothing is decided. The wait for a turn doesn't
    /// count.
    #[serde(default = "timeout")]
    #[schemars(extend("pattern" = DURATION))]
    pub timeout: Duration,
    /// Go through every check, say what would happen, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// How long the finished migration's object is kept.
    #[serde(default = "ttl_after_finished")]
    #[schemars(extend("pattern" = DURATION))]
    pub ttl_after_finished: Duration,
    /// Ask for the end of the migration: heard until the decision, changes nothing after it.
    #[serde(default)]
    pub cancel: bool,
}

/// A Pod of the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID, where exactly this Pod is meant and not one that took its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How a Pod's state is captured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub enum Capture {
    /// Whichever way fits the source's node best.
    #[default]
    Auto,
    /// The kubelet's checkpoint call.
    Kubelet,
    /// CRIU through the OCI runtime, images straight into memory.
    Direct,
}

fn freeze_budget() -> Duration {
    time::Duration::from_secs(10).into()
}

fn timeout() -> Duration {
    time::Duration::from_secs(10 * 60).into()
}

fn ttl_after_finished() -> Duration {
    time::Duration::from_secs(24 * 60 * 60).into()
}

impl PodMigrationSpec {
    /// A migration of the Pod `pod` with every default.
    pub fn of(pod: impl Into<String>) -> Self {
        Self {
            pod_ref: PodReference { name: pod.into(), uid: None },
            target_node: None,
            node_selector: BTreeMap::new(),
            capture: Capture::default(),
            freeze_budget: freeze_budget(),
            timeout: timeout(),
            dry_run: false,
            ttl_after_finished: ttl_after_finished(),
            cancel: false,
        }
    }
}

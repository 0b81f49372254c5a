//! What users see in the cluster: `PodMigration`, group transship.io, version v1alpha1.

mod node;
mod spec;
mod status;

pub use node::{NodeReport, Problem};
pub use spec::{Capture, PodMigration, PodMigrationSpec, PodReference};
pub use status::{
    Bytes, Candidate, ConditionType, Phase, PodMigrationStatus, SourceStatus, TargetStatus, condition,
    set_condition,
};

/// The label on both Pods of a migration while it lasts; its value is the migration's name. Controllers of kube-system
/// may not delete a Pod that bears it: see `deploy/policies`.
pub const HANDOVER: &str = "transship.io/handover";
/// A user's label on a Pod: `never` means that it is not to be migrated.
pub const MIGRATE: &str = "transship.io/migrate";
/// The scheduling gate of a target Pod until its node's agent expects it.
pub const EXPECTED_GATE: &str = "transship.io/expected";
/// The readiness gate of a target Pod until its processes run.
pub const RESUMED_GATE: &str = "transship.io/resumed";
/// Keeps a `PodMigration` until its source's agent has answered.
pub const FINALIZER: &str = "transship.io/migration";
/// Who has written, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "transship-coordinator";
/// The ConfigMap in the coordinator's namespace that says what each node can do: a [`NodeReport`] as JSON by each node's
/// name.
pub const NODES: &str = "transship-nodes";

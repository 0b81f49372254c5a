//! transship's coordinator: moves Pods between the nodes of a cluster, as `PodMigration` objects ask.
//!
//! What decides is a function from values to values: `target` makes the Pod that the source becomes, `place` chooses its
//! node, `queue` whose turn it is, `plan` the next step. Around these, `controller` does the steps, through `cluster` (the
//! API server) and `agents`; `leader` sees to it that one does them. The decision which of two copies lives is none of the
//! coordinator's: see ARCHITECTURE.md.

pub mod agents;
pub mod api;
pub mod cluster;
pub mod controller;
mod health;
pub mod leader;
mod metrics;
mod nodes;
pub mod place;
pub mod plan;
pub mod queue;
mod run;
mod stale;
pub mod target;

use kube::CustomResourceExt;
pub use run::{Settings, run};

/// The custom resource's definition, as `deploy/crd` holds it.
pub fn crd() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&api::PodMigration::crd())
}

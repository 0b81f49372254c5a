//! transship's coordinator: moves Pods between the nodes of a cluster, as `PodMigration` objects ask.
//!
//! What decides is a function from values to values: `target` makes the Pod that the source becomes, `place` chooses
//! its node. The decision which of two copies lives is none of the coordinator's: see ARCHITECTURE.md.

pub mod api;
pub mod place;
pub mod target;

use kube::CustomResourceExt;

/// The custom resource's definition, as `deploy/crd` holds it.
pub fn crd() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&api::PodMigration::crd())
}

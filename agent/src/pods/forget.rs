//! Both Pods are settled: what was kept of a migration may go.

use std::sync::Arc;

use transship_decision::{LockError, Marker, MigrationId, PodUid, Verdict};
use transship_proto::{Fault, Reason};

use super::{kept, stands};
use crate::node::Node;
use crate::plan::{Owner, Plan};
use crate::target;

/// Drops the plan and the outcome of a migration, lowers what it has raised. One that isn't known is forgotten already.
///
/// # Errors
/// [`Reason::AlreadyMigrating`] while it is at work, or while the Pod that its marker keeps from starting is still up:
/// ask again.
pub async fn forget(node: &Arc<Node>, migration: &MigrationId) -> Result<(), Fault> {
    if node.handovers.get(migration).is_some_and(|handover| !handover.is_over()) {
        return Err(at_work(migration));
    }
    let plan = match Plan::load(&node.state, migration)? {
        None => {
            node.handovers.remove(migration);
            return Ok(());
        }
        Some(plan) if plan.owner() == Owner::Kubelet => plan,
        Some(_) => {
            let what = format!("migration {migration} is of no Pod of a kubelet; nobody needs to forget it");
            return Err(Fault::new(Reason::InvalidArgument, what));
        }
    };
    if matches!(plan, Plan::Arrival(_)) {
        target::settle(node, migration).await?;
    }
    let host_error = |error: &dyn std::fmt::Display| Fault::new(Reason::HostError, error.to_string());
    let _lock = match node.state.lock(migration) {
        Err(LockError::Held(_)) => return Err(at_work(migration)),
        other => other.map_err(|error| host_error(&error))?,
    };
    if !node.state.done_path(migration).exists() {
        return Err(at_work(migration));
    }
    match plan {
        Plan::Departure(plan) => {
            // One that was lost has a Pod that starts anew here, if its kubelet still has it.
            if !was_lost(node, migration)? {
                lower(node, migration, Marker::Fence, &plan.pod_uid).await?;
            } else {
                let lowered = node.state.lower(Marker::Fence, &plan.pod_uid, migration);
                lowered.map_err(|error| host_error(&error))?;
            }
        }
        Plan::Arrival(plan) => lower(node, migration, Marker::Expected, &plan.pod_uid).await?,
    }
    node.state.forget(migration).map_err(|error| host_error(&error))?;
    node.handovers.remove(migration);
    Ok(())
}

/// Lowers a marker that still stands, when nothing of its Pod is up that could be started again.
async fn lower(node: &Node, migration: &MigrationId, marker: Marker, pod: &PodUid) -> Result<(), Fault> {
    let host_error = |error: &dyn std::fmt::Display| Fault::new(Reason::HostError, error.to_string());
    let marked = node.state.marked(marker, pod).map_err(|error| host_error(&error))?;
    if marked.as_ref() != Some(migration) {
        return Ok(());
    }
    if stands(&node.cri, pod.as_str()).await? {
        let what = format!(
            "Pod {pod} of migration {migration} is still up on {}, and its kubelet could start its containers again; delete it, and ask again when it is gone",
            node.name()
        );
        return Err(Fault::new(Reason::AlreadyMigrating, what));
    }
    node.state.lower(marker, pod, migration).map_err(|error| host_error(&error))
}

/// Whether the target has lost what was released to it.
fn was_lost(node: &Node, migration: &MigrationId) -> Result<bool, Fault> {
    let standing = node.state.standing(migration);
    let standing = standing.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    let released = standing.is_some_and(|signed| signed.record().verdict() == Verdict::Released);
    Ok(released && kept(node, migration)?.is_some_and(|outcome| !outcome.migrated))
}

fn at_work(migration: &MigrationId) -> Fault {
    let what = format!("migration {migration} is still at work here; ask again when it is over");
    Fault::new(Reason::AlreadyMigrating, what)
}

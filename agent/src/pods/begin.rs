//! A Pod's migration is asked for, and asked to end.

use std::sync::Arc;
use std::time::Duration;

use transship_decision::{MigrationId, PodUid};
use transship_proto::v1::{BeginRequest, PodIdentity};
use transship_proto::{Fault, Reason};

use super::{kept, unknown};
use crate::node::Node;
use crate::plan::{Owner, Plan, migration_id};
use crate::source::{self, Wish};

/// How long the target's kubelet may take to come where nothing else was asked for.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(600);

/// One Pod of this node that becomes another's.
#[derive(Debug, Clone)]
pub struct Move {
    /// The Pod that leaves.
    pub source: PodIdentity,
    /// The Pod that its state goes to, which the target's kubelet makes.
    pub target: PodIdentity,
    /// The target's name, as its certificate must have it.
    pub target_node: String,
    /// How long its kubelet may take.
    pub patience: Duration,
}

/// Begins to move a Pod, or joins the migration of that name. Returns when its plan lies on the disk.
///
/// # Errors
/// It was refused before anything was begun, or the name is that of something else.
pub async fn begin(node: &Arc<Node>, request: BeginRequest) -> Result<(), Fault> {
    let migration = migration_id(&request.migration)?;
    let wish = wish(request)?;
    if !joins(node, &migration, &wish)? {
        let (handover, new) = node.handovers.open(&migration);
        if new {
            let moving =
                source::hand_over(Arc::clone(node), migration.clone(), wish.clone(), Arc::clone(&handover));
            node.tasks.spawn(moving);
        }
        handover.planned().await?;
        joins(node, &migration, &wish)?;
    }
    Ok(())
}

fn wish(request: BeginRequest) -> Result<Wish, Fault> {
    let invalid =
        |what: &str| Fault::new(Reason::InvalidArgument, format!("the request to begin names {what}"));
    let (capture, budget) = (request.capture(), request.freeze_budget_ms);
    let pod = |pod: Option<PodIdentity>, which: &str| {
        let usable = pod.filter(|pod| pod.uid.parse::<PodUid>().is_ok());
        usable.ok_or_else(|| invalid(&format!("no {which} with a usable UID")))
    };
    let (source, target) = (pod(request.source, "Pod")?, pod(request.target_pod, "target Pod")?);
    if source.uid == target.uid {
        return Err(invalid("the same Pod twice; the target's must be another"));
    }
    if request.target_node.is_empty() {
        return Err(invalid("no target node; its certificate's name is needed"));
    }
    let patience = match request.timeout_ms {
        0 => DEFAULT_PATIENCE,
        millis => Duration::from_millis(millis.into()),
    };
    let moves = Move { source, target, target_node: request.target_node, patience };
    Ok(Wish::of_pod(moves, request.target, capture, budget))
}

/// Whether a migration of that name was begun here before.
fn joins(node: &Node, migration: &MigrationId, wish: &Wish) -> Result<bool, Fault> {
    let uid = wish.pod.as_ref().map_or("", |moves| moves.source.uid.as_str());
    match Plan::load(&node.state, migration)? {
        None => Ok(false),
        Some(Plan::Departure(plan)) if plan.owner == Owner::Kubelet && plan.pod_uid.as_str() == uid => {
            Ok(true)
        }
        Some(_) => {
            let what = format!("{migration} is the name of another migration; use each name once");
            Err(Fault::new(Reason::InvalidArgument, what))
        }
    }
}

/// Asks for the end of a migration; tells whether that came in time.
pub async fn cancel(node: &Node, migration: &MigrationId) -> Result<bool, Fault> {
    match node.handovers.get(migration) {
        Some(handover) if handover.is_over() => Ok(false),
        Some(handover) => {
            handover.cancel.cancel();
            Ok(handover.heard().await)
        }
        // Over, or brought to its end by another process, which undoes by itself whatever isn't decided.
        None if kept(node, migration)?.is_some() || Plan::load(&node.state, migration)?.is_some() => {
            Ok(false)
        }
        None => Err(unknown(migration)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> BeginRequest {
        let pod = |uid: &str| Some(PodIdentity { namespace: "d".into(), name: "p".into(), uid: uid.into() });
        BeginRequest {
            migration: "m".into(),
            source: pod("1"),
            target_pod: pod("2"),
            target: "b:7443".into(),
            target_node: "b".into(),
            ..BeginRequest::default()
        }
    }

    #[test]
    fn a_request_must_name_two_pods_and_a_node() {
        let moves = wish(request()).unwrap().pod.unwrap();
        assert_eq!((moves.patience, moves.target.uid.as_str()), (DEFAULT_PATIENCE, "2"));
        let same = BeginRequest { target_pod: request().source, ..request() };
        let nowhere = BeginRequest { target_node: String::new(), ..request() };
        let nothing = BeginRequest { source: Some(PodIdentity::default()), ..request() };
        for wrong in [same, nowhere, nothing] {
            assert_eq!(wish(wrong).unwrap_err().reason, Reason::InvalidArgument);
        }
    }
}

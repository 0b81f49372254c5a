//! The state that comes: accepted from the migration's own source only, and believed when it is sealed and verified.

use std::sync::Arc;

use transship_decision::{Failure, MigrationId, Root};
use transship_proto::{Fault, Reason};
use transship_transfer::{Incoming, Limits, ReceiveError};

use super::arrival::AtWork;
use crate::host::failed;
use crate::node::{Node, chain};

/// The folder in the workspace that the tree is received into.
pub const TREE: &str = "tree";
/// The mark, in the workspace, that the tree is whole and verified; holds its root.
const SEALED: &str = "sealed";
/// What a transfer is closed with that belongs to no migration here (an application's code, see `transfer`).
const NOT_EXPECTED: u16 = 1;

/// Serves the transfer's socket until the agent ends.
pub async fn receive(node: Arc<Node>) {
    let mut listener = node.endpoint.listen();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.shutdown.cancelled() => None,
        };
        let Some(incoming) = accepted else { break };
        match incoming {
            Ok(incoming) => match expected(&node, &incoming) {
                Some(arrival) => drop(node.tasks.spawn(one(arrival, incoming))),
                None => incoming.refuse(NOT_EXPECTED, "no migration of that name is expected from this node"),
            },
            Err(error) => tracing::info!(error = chain(&error), "a transfer could not be opened"),
        }
    }
}

/// The migration that this transfer belongs to, if it comes from that migration's source.
fn expected(node: &Node, incoming: &Incoming) -> Option<Arc<AtWork>> {
    let migration: MigrationId = std::str::from_utf8(incoming.ticket()).ok()?.parse().ok()?;
    let arrival = node.arrivals.get(&migration)?;
    (arrival.plan.source_node == incoming.peer().name).then_some(arrival)
}

async fn one(arrival: Arc<AtWork>, incoming: Incoming) {
    arrival.tell(|machine| machine.receiving());
    match tree(&arrival, incoming).await {
        Ok(root) => {
            tracing::info!(migration = %arrival.plan.migration, %root, "the tree is whole");
            arrival.tell(|machine| machine.sealed(root));
        }
        Err(fault) => {
            tracing::warn!(migration = %arrival.plan.migration, %fault, "the state did not arrive");
            arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message));
        }
    }
}

async fn tree(arrival: &AtWork, incoming: Incoming) -> Result<Root, Fault> {
    let folder = arrival.workspace.folder(TREE)?;
    let limits = Limits { max_bytes: arrival.plan.capacity, ..Limits::default() };
    let receiving = incoming.accept(&folder, limits).await.map_err(not_received)?;
    let over = arrival.over.clone();
    let tree = tokio::select! {
        verified = receiving.verified() => verified.map_err(|failed| not_received(failed.error))?,
        () = over.cancelled() => return Err(Fault::new(Reason::Cancelled, "the migration is over")),
    };
    let root = Root(*tree.root().as_bytes());
    // An agent that comes after this one has to find it.
    let mark = arrival.workspace.path().join(SEALED);
    std::fs::write(&mark, root.to_string()).map_err(failed(format_args!("writing {}", mark.display())))?;
    Ok(root)
}

/// The root that a former agent has verified the tree under, if it had come so far.
pub fn sealed_before(arrival_workspace: &crate::host::Workspace) -> Option<Root> {
    std::fs::read_to_string(arrival_workspace.path().join(SEALED)).ok()?.parse().ok()
}

fn not_received(error: ReceiveError) -> Fault {
    let reason = match &error {
        ReceiveError::TargetFull(_) => Reason::TargetFull,
        ReceiveError::Link(_) | ReceiveError::Silent { .. } => Reason::ConnectionLost,
        ReceiveError::Store(_) => Reason::HostError,
        ReceiveError::Cancelled { .. } => Reason::Cancelled,
        _ => Reason::ContentCorrupt,
    };
    Fault::new(reason, format!("the state did not arrive whole: {}", chain(&error)))
}

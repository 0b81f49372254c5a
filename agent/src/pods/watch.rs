//! What a coordinator hears of a migration, whichever process works on it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use transship_decision::MigrationId;
use transship_proto::Fault;
use transship_proto::v1::MigrateEvent;
use transship_proto::v1::migrate_event::Event;

use super::{kept, unknown};
use crate::node::Node;
use crate::plan::{Owner, Plan};

/// How often it is looked whether a process beside this one, a recovery that the watchdog started, has come to an end.
const TICK: Duration = Duration::from_millis(200);

/// Events up to the outcome.
pub type Events = Pin<Box<dyn Stream<Item = MigrateEvent> + Send>>;

/// Follows a migration that leaves this node.
///
/// # Errors
/// [`MigrationNotFound`](transship_proto::Reason::MigrationNotFound) where none of that name was begun here, or it was forgotten.
pub fn watch(node: &Arc<Node>, migration: &MigrationId) -> Result<Events, Fault> {
    if let Some(handover) = node.handovers.get(migration) {
        return Ok(handover.follow().boxed());
    }
    match Plan::load(&node.state, migration)? {
        Some(Plan::Departure(plan)) if plan.owner == Owner::Kubelet => {}
        _ => return Err(unknown(migration)),
    }
    if let Some(outcome) = kept(node, migration)? {
        return Ok(stream::iter([MigrateEvent { event: Some(Event::Outcome(outcome)) }]).boxed());
    }
    // About to be taken up here, or at work in another process.
    let (node, migration) = (Arc::clone(node), migration.clone());
    let taken_up = async move {
        loop {
            if let Some(handover) = node.handovers.get(&migration) {
                return handover.follow().boxed();
            }
            match kept(&node, &migration) {
                Ok(Some(outcome)) => {
                    return stream::iter([MigrateEvent { event: Some(Event::Outcome(outcome)) }]).boxed();
                }
                Ok(None) if node.state.plan_path(&migration).exists() => tokio::time::sleep(TICK).await,
                // Forgotten meanwhile.
                Ok(None) => return stream::empty().boxed(),
                Err(fault) => {
                    tracing::error!(%migration, %fault, "its outcome can't be told");
                    return stream::empty().boxed();
                }
            }
        }
    };
    Ok(stream::once(taken_up).flatten().boxed())
}

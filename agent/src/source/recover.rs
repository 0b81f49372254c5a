//! A migration whose agent died is taken up: by the next agent, or by a process that the watchdog starts.

use std::sync::Arc;

use tracing::info;
use transship_decision::source::{Facts, Fence, Processes, TargetReport};
use transship_decision::{Lock, Marker, MigrationId, Source};
use transship_dial::dial;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{State, StateRequest};
use transship_proto::{Fault, Reason};

use super::drive::{Migration, drive};
use super::events::{Audience, Events};
use super::plan::Departure;
use crate::node::Node;
use crate::plan::Owner;

/// Brings the migration to its end. `lock` is the right to do so.
pub async fn recover(
    node: Arc<Node>,
    migration: MigrationId,
    plan: Departure,
    lock: Lock,
) -> Result<(), Fault> {
    let facts = facts(&node, &migration, &plan).await?;
    info!(%migration, ?facts, "is taken up");
    // A Pod's coordinator may go on following it, and may cancel what would wait for its target for ever.
    let handover = (plan.owner == Owner::Kubelet).then(|| node.handovers.take_up(&migration));
    let cancel = handover.as_ref().map(|handover| handover.cancel.clone()).unwrap_or_default();
    let events = Events::new(handover.map_or(Audience::Nobody, Audience::Followers));
    let mut at_work = Migration::new(node, migration, Source::recover(&facts), events);
    at_work.plan = Some(plan);
    at_work.lock = Some(lock);
    // What is recovered goes to its end; a person who wants otherwise ends the process.
    drive(&mut at_work, &cancel).await;
    Ok(())
}

async fn facts(node: &Node, migration: &MigrationId, plan: &Departure) -> Result<Facts, Fault> {
    let host_error = |why: String| Fault::new(Reason::HostError, why);
    let fence =
        node.state.marked(Marker::Fence, &plan.pod_uid).map_err(|error| host_error(error.to_string()))?;
    let standing = node.state.standing(migration).map_err(|error| host_error(error.to_string()))?;
    let (processes, fenced) = (plan.processes()?, fence.as_ref() == Some(migration));
    let target = match (&standing, processes, fenced) {
        // Only a source that is gone makes the target's word count.
        (None, Processes::Gone, true) => {
            ask(node, migration, &plan.target).await.unwrap_or(TargetReport::Unknown)
        }
        _ => TargetReport::Unknown,
    };
    Ok(Facts {
        record: standing.map(|signed| signed.record().clone()),
        fence: if fenced { Fence::Up } else { Fence::Down },
        processes,
        target,
    })
}

async fn ask(node: &Node, migration: &MigrationId, target: &str) -> Result<TargetReport, Fault> {
    let dialled = dial(&node.identity, target).await?;
    let request = StateRequest { migration: migration.to_string() };
    let answer = TargetClient::new(dialled.channel).state(request).await.map_err(Fault::from)?.into_inner();
    Ok(match (answer.state(), answer.root.parse()) {
        (State::Sealed | State::Held | State::Resumed, Ok(root)) => TargetReport::Sealed(root),
        (State::Recovering, _) => TargetReport::Unknown,
        _ => TargetReport::Unsealed,
    })
}

impl Migration {
    /// What the target holds, when the source has lost its own.
    pub(super) async fn ask_target(&mut self) -> Result<TargetReport, Fault> {
        ask(&self.node, &self.id, &self.plan()?.target).await
    }
}

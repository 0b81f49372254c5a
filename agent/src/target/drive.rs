//! Does what the target's machine wants done, until nothing is left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};
use transship_decision::target::{TargetPhase, TargetStep};
use transship_decision::{Failure, Marker, SignedRecord};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use super::decision::ask_source;
use super::discard;
use super::hold::resume;
use crate::faults;
use crate::host::{blocking, host_cgroup};
use crate::node::Node;
use crate::plan::Owner;
use crate::steps::{back_off, name};

/// How long the source may be silent about its decision before it is asked, and between two questions.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the source may take from the target's preparation until it opens the transfer.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the watchdog may take to be gone.
const END: Duration = Duration::from_secs(5);

/// Drives one migration to its end on this node.
pub async fn drive(node: Arc<Node>, arrival: Arc<AtWork>) {
    let mut creating = Creating::default();
    let mut changes = arrival.changes();
    loop {
        changes.borrow_and_update();
        if let Some(step) = arrival.ask(|machine| machine.next()) {
            back_off(arrival.ask(|machine| machine.failures_in_a_row())).await;
            info!(migration = %arrival.plan.migration, ?step, "begins");
            faults::at(&format!("target:{}", name(&step)));
            let result = perform(&node, &arrival, &step).await;
            if let Err(fault) = &result {
                warn!(migration = %arrival.plan.migration, ?step, %fault, "failed");
            }
            arrival.tell(|machine| machine.finished(&step, result.map_err(failure)));
            continue;
        }
        if arrival.ask(|machine| machine.is_over()) {
            break;
        }
        if arrival.plan.owner == Owner::Agent {
            creating.absent(&node, &arrival);
        }
        let silent =
            matches!(arrival.phase(), TargetPhase::Sealed | TargetPhase::Restoring | TargetPhase::Held);
        tokio::select! {
            _ = changes.changed() => {}
            () = creating.next(&arrival) => {}
            () = tokio::time::sleep(SILENCE), if silent => ask_source(&node, &arrival).await,
            // Before the seal nothing is lost by giving up, and a source that died would never come.
            () = tokio::time::sleep(PATIENCE), if arrival.phase() == TargetPhase::Expecting => {
                let why = format!("the source didn't begin to send its state within {PATIENCE:?}");
                arrival.give_up(Failure::new(Reason::ConnectionLost.as_ref(), why));
            }
        }
    }
    info!(migration = %arrival.plan.migration, phase = ?arrival.phase(), "is over");
    node.arrivals.remove(&arrival.plan.migration);
    arrival.end();
}

/// The calls to the runtime that create and start containers, where no kubelet makes them.
#[derive(Default)]
struct Creating {
    names: HashSet<String>,
    failures: u32,
    calls: JoinSet<(String, Result<(), Fault>)>,
}

impl Creating {
    /// Asks the runtime for every container that is missing and not asked for yet.
    fn absent(&mut self, node: &Arc<Node>, arrival: &Arc<AtWork>) {
        for name in arrival.ask(|machine| machine.absent().map(str::to_owned).collect::<Vec<_>>()) {
            if self.names.insert(name.clone()) {
                let (node, arrival, failures) = (Arc::clone(node), Arc::clone(arrival), self.failures);
                self.calls.spawn(async move {
                    back_off(failures).await;
                    let result = create(&node, &arrival, &name).await;
                    (name, result)
                });
            }
        }
    }

    /// Waits for the end of a call. One that failed counts as a failed restore.
    async fn next(&mut self, arrival: &AtWork) {
        let Some(ended) = self.calls.join_next().await else { return std::future::pending().await };
        match ended {
            Ok((name, result)) => {
                self.names.remove(&name);
                if let Err(fault) = result {
                    self.failures += 1;
                    warn!(migration = %arrival.plan.migration, container = name, %fault, "the runtime couldn't start it");
                    arrival.tell(|machine| machine.create_failed(&name, failure(fault)));
                }
            }
            Err(error) => {
                warn!(migration = %arrival.plan.migration, %error, "a call to the runtime broke off")
            }
        }
    }
}

async fn create(node: &Node, arrival: &AtWork, name: &str) -> Result<(), Fault> {
    let plan = &arrival.plan;
    let id = match arrival.take_made(name) {
        Some(id) => id,
        None => {
            let gone = || {
                let what = format!("the sandbox of migration {} is gone", plan.migration);
                Fault::new(Reason::RuntimeError, what)
            };
            let sandboxes = node.cri.sandboxes_of(plan.pod_uid.as_str()).await?;
            let sandbox_id = sandboxes.into_iter().next().ok_or_else(gone)?;
            node.cri.create_container(&sandbox_id, &plan.sandbox, plan.container(name)?.1).await?
        }
    };
    let _turn = arrival.turn().await;
    node.cri.start_container(&id).await
}

async fn perform(node: &Arc<Node>, arrival: &Arc<AtWork>, step: &TargetStep) -> Result<(), Fault> {
    let plan = &arrival.plan;
    let host_error = |error: String| Fault::new(Reason::HostError, error);
    match step {
        TargetStep::Adopt => {
            let record: Option<SignedRecord> = arrival.carried();
            let missing = || host_error("the record that was carried here is missing".into());
            node.state
                .adopt(record.ok_or_else(missing)?)
                .map(drop)
                .map_err(|error| host_error(error.to_string()))
        }
        TargetStep::Remove(name) => discard::container(node, arrival, name).await,
        // Its kubelet starts again what has ended: not empty, until the Pod is gone and the migration forgotten.
        TargetStep::LowerExpected
            if plan.owner == Owner::Kubelet && arrival.phase() == TargetPhase::Discarded =>
        {
            Ok(())
        }
        TargetStep::LowerExpected => {
            let lowered = node.state.lower(Marker::Expected, &plan.pod_uid, &plan.migration);
            lowered.map_err(|error| host_error(error.to_string()))
        }
        TargetStep::Resume => resume(node, arrival).await,
        TargetStep::Discard => discard::everything(node, arrival).await,
        TargetStep::Clean => {
            discard::end_restores(arrival).await?;
            arrival.workspace.remove()?;
            node.state.mark_done(&plan.migration).map_err(|error| host_error(error.to_string()))?;
            // A recovery that couldn't leave that cgroup leaves it to the next agent.
            let watchdog = host_cgroup(&plan.migration, "watchdog")?;
            blocking(move || {
                if watchdog.cgroup().wait_empty(END).is_ok() { watchdog.remove() } else { Ok(()) }
                    .map_err(|error| Fault::new(Reason::HostError, error.to_string()))
            })
            .await
        }
    }
}

/// A fault as the machine carries it.
pub(super) fn failure(fault: Fault) -> Failure {
    Failure::new(fault.reason.as_ref(), fault.message)
}

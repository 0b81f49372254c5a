//! A migration whose agent died is taken up on the target.

use std::sync::Arc;

use tracing::info;
use transship_decision::target::{ContainerFacts, Expected, TargetFacts};
use transship_decision::{Lock, Marker, Target};
use transship_freezer::Cgroup;
use transship_proto::cri::{ContainerFilter, ContainerState};
use transship_proto::{Fault, Reason};

use super::arrival::{Arrival, AtWork};
use super::drive::drive;
use super::receive::sealed_before;
use crate::grants::Judge;
use crate::host::{CGROUPS, Workspace, process};
use crate::node::Node;
use crate::runtime::{container_pid, sandbox_pid};

/// Brings the migration to its end. `lock` is the right to do so.
pub async fn recover(node: Arc<Node>, plan: Arrival, lock: Lock) -> Result<(), Fault> {
    let host_error = |why: String| Fault::new(Reason::HostError, why);
    let workspace = Workspace::open(&node.run, &plan.migration);
    let marked =
        node.state.marked(Marker::Expected, &plan.pod_uid).map_err(|error| host_error(error.to_string()))?;
    let standing = node.state.standing(&plan.migration).map_err(|error| host_error(error.to_string()))?;
    let facts = TargetFacts {
        containers: containers(&node, &plan).await?,
        expected: if marked.as_ref() == Some(&plan.migration) { Expected::Up } else { Expected::Down },
        verdict: standing.as_ref().map(|signed| signed.record().verdict()),
        sealed: workspace.as_ref().and_then(sealed_before),
    };
    info!(migration = %plan.migration, ?facts, "is taken up");
    let workspace = match workspace {
        Some(workspace) => workspace,
        // Lost with a reboot; an empty one stands for it, so that there is one to remove.
        None => Workspace::create(&node.run, &plan.migration, 1 << 20)?,
    };
    let arrival = Arc::new(AtWork::new(plan, workspace, Target::recover(facts), lock));
    if let Some(signed) = standing {
        arrival.carry(signed);
    }
    // A transfer doesn't outlive its agent: what isn't sealed never will be.
    let broken = transship_decision::Failure::new(
        Reason::AgentRestarted.as_ref(),
        "the target's agent was restarted during the transfer",
    );
    arrival.give_up(broken);
    node.arrivals.add(Arc::clone(&arrival));
    drive(node, arrival).await;
    Ok(())
}

async fn containers(node: &Node, plan: &Arrival) -> Result<Vec<(String, ContainerFacts)>, Fault> {
    let mut facts = Vec::new();
    let sandboxes = node.cri.sandboxes_of(plan.pod_uid.as_str()).await?;
    for name in plan.names() {
        let mut found = ContainerFacts::Absent;
        for sandbox in &sandboxes {
            let filter = ContainerFilter { pod_sandbox_id: sandbox.clone(), ..ContainerFilter::default() };
            for container in node.cri.containers(filter).await? {
                // Ended ones of the same name lie about where a kubelet has tried before.
                let named = container.metadata.as_ref().is_some_and(|data| data.name == name);
                if named && found != ContainerFacts::Held {
                    let running = container.state() == ContainerState::ContainerRunning;
                    found = if running && is_held(node, sandbox, &container.id).await {
                        ContainerFacts::Held
                    } else {
                        ContainerFacts::Unclear
                    };
                }
            }
        }
        facts.push((name, found));
    }
    Ok(facts)
}

/// Whether all its tasks are stopped and may do no more than the bundle grants. Anything that can't be told isn't.
async fn is_held(node: &Node, sandbox: &str, container: &str) -> bool {
    let looked = async {
        let failed = |why: String| Fault::new(Reason::HostError, why);
        let gone = || failed("its first process is gone".into());
        let pid = container_pid(&node.cri, container).await?.ok_or_else(gone)?;
        let cgroup = Cgroup::of_pid(pid, CGROUPS.as_ref()).map_err(|error| failed(error.to_string()))?;
        let pids = cgroup.processes().map_err(|error| failed(error.to_string()))?;
        let groups = process::look(pids.clone()).map_err(|error| failed(error.to_string()))?;
        if groups.iter().any(|group| !matches!(group.state, 'T' | 'Z')) {
            return Err(failed("a task isn't stopped".into()));
        }
        let folder = crate::runtime::bundle_of(&node.cri, container).await?;
        Judge::of(&folder, sandbox, sandbox_pid(&node.cri, sandbox).await?)?.tasks(&pids)
    };
    looked.await.inspect_err(|fault: &Fault| info!(container, %fault, "is not held")).is_ok()
}

//! Restored and held still: read back before anybody is told, and let run when the source has released it.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tracing::info;
use transship_checkpoint::log;
use transship_decision::wire::Request;
use transship_freezer::{Cgroup, HostCgroup};
use transship_proto::cri::{ContainerFilter, ContainerState};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use super::assemble::work_folder;
use crate::grants::Judge;
use crate::host::process::{Stillness, stillness};
use crate::host::{CGROUPS, Exit, blocking, criu_fault, host_cgroup};
use crate::node::Node;
use crate::runtime::{OciRuntime, container_pid};

/// How long the container runtime may take from the end of the OCI runtime until it calls the container running.
const RUNNING: Duration = Duration::from_secs(10);
/// How often it is asked: CRI's events are optional, and not every runtime has them.
const TICK: Duration = Duration::from_millis(3);

/// The runtime that restored has ended: is the container held, with nothing more than its bundle grants? If so, this
/// tells when its first process ends.
pub async fn hold(
    node: &Arc<Node>,
    arrival: &Arc<AtWork>,
    request: &Request,
    judge: Judge,
) -> Result<Exit, Fault> {
    let id = request.container_id.as_str();
    let held = held_tasks(arrival, request).await;
    let (cgroup, exit) = held.map_err(|fault| explained(arrival, request, fault))?;
    let pids = cgroup.processes().map_err(|error| Fault::new(Reason::RestoreFailed, error.to_string()))?;
    blocking(move || judge.tasks(&pids)).await?;

    info!(migration = %arrival.plan.migration, container = id, "the held tasks may do what their bundle grants, and no more");
    let running = async {
        while node.cri.container_state(id).await? != Some(ContainerState::ContainerRunning) {
            tokio::time::sleep(TICK).await;
        }
        Ok::<_, Fault>(())
    };
    let late = |_| {
        Err(Fault::new(
            Reason::RestoreFailed,
            format!("the runtime doesn't call container {id} running {RUNNING:?} after its restore"),
        ))
    };
    tokio::time::timeout(RUNNING, running).await.unwrap_or_else(late)?;
    arrival.keep_held(&request.container, cgroup);
    Ok(exit)
}

/// The cgroup of the restored container, all of whose tasks are stopped, and the end of its first process.
async fn held_tasks(arrival: &AtWork, request: &Request) -> Result<(Cgroup, Exit), Fault> {
    let id = request.container_id.as_str();
    let failed = |what: String| Fault::new(Reason::RestoreFailed, what);
    let root = request.root.clone().ok_or_else(|| failed("the runtime's root isn't known".into()))?;
    let state = OciRuntime { program: arrival.plan.oci_program.clone(), root }.state(id).await?;
    if state.status != "running" {
        return Err(failed(format!("the OCI runtime calls container {id} {}", state.status)));
    }
    let pid = u32::try_from(state.pid).map_err(|_| failed(format!("container {id} has no process")))?;
    let exit = Exit::of(pid)?;
    let cgroup = Cgroup::of_pid(pid, CGROUPS.as_ref()).map_err(|error| failed(error.to_string()))?;
    let pids = cgroup.processes().map_err(|error| failed(error.to_string()))?;
    if pids.is_empty() {
        return Err(failed(format!("container {id} has no process")));
    }
    let stopped = async {
        for pid in pids {
            still(pid).await?;
        }
        Ok(())
    };
    let late = |_| Err(failed(format!("the tasks of container {id} don't stop within {RUNNING:?}")));
    tokio::time::timeout(RUNNING, stopped).await.unwrap_or_else(late)?;
    Ok((cgroup, exit))
}

/// Returns when that process stands still; on a busy machine it may take its time to stop.
async fn still(pid: u32) -> Result<(), Fault> {
    let failed = |what: String| Fault::new(Reason::RestoreFailed, what);
    loop {
        match stillness(pid).map_err(|error| failed(error.to_string()))? {
            Stillness::Still => return Ok(()),
            Stillness::Stopping => tokio::time::sleep(TICK).await,
            Stillness::Runs => return Err(failed(format!("process {pid} isn't held, it may run"))),
        }
    }
}

/// CRIU tells what failed only in its log: the first error there is the reason.
fn explained(arrival: &AtWork, request: &Request, fault: Fault) -> Fault {
    let Ok((number, _)) = arrival.plan.container(&request.container) else { return fault };
    let file = arrival.workspace.path().join(work_folder(number)).join("restore.log");
    let Ok(text) = std::fs::read_to_string(&file) else { return fault };
    let found = log::first_error(&text).map(|_| log::explain(&text));
    arrival.keep_log(text);
    found.map_or(fault, |found| criu_fault(Reason::RestoreFailed, &found))
}

/// Lets every task run that was running when the source was frozen.
pub async fn resume(node: &Node, arrival: &AtWork) -> Result<(), Fault> {
    let cgroups = match arrival.held() {
        Some(cgroups) => cgroups,
        // Some are held since an agent before this one.
        None => find_held(node, arrival).await?,
    };
    // One that is gone has crashed.
    for cgroup in cgroups.into_iter().filter(|cgroup| cgroup.path().exists()) {
        let pids = cgroup.processes().map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        info!(migration = %arrival.plan.migration, tasks = pids.len(), "runs again");
        for pid in pids {
            let Some(id) = Pid::from_raw(pid.cast_signed()) else { continue };
            match kill_process(id, Signal::CONT) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(errno) => {
                    return Err(Fault::new(
                        Reason::HostError,
                        format!("process {pid} can't be continued: {errno}"),
                    ));
                }
            }
        }
    }
    Ok(())
}

async fn find_held(node: &Node, arrival: &AtWork) -> Result<Vec<Cgroup>, Fault> {
    let mut found = Vec::new();
    for sandbox in node.cri.sandboxes_of(arrival.plan.pod_uid.as_str()).await? {
        let filter = ContainerFilter { pod_sandbox_id: sandbox, ..ContainerFilter::default() };
        for container in node.cri.containers(filter).await? {
            if let Some(pid) = container_pid(&node.cri, &container.id).await? {
                let cgroup = Cgroup::of_pid(pid, CGROUPS.as_ref());
                found.push(cgroup.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?);
            }
        }
    }
    Ok(found)
}

impl AtWork {
    /// The host cgroup in which CRIU works on the restore of the container of that number.
    pub(super) fn restore_cgroup(&self, number: usize) -> Result<HostCgroup, Fault> {
        host_cgroup(&self.plan.migration, &format!("restore-{number}"))
    }
}

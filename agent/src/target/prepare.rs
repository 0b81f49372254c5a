//! An equal sandbox, whose containers wait in the runtime's `create`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use transship_decision::{Failure, Marker, MigrationId, PodUid, Target};
use transship_proto::cri::{ContainerConfig, ContainerFilter, ImageSpec, PodSandboxConfig};
use transship_proto::v1::{PrepareRequest, PrepareResponse, WorkloadContainer};
use transship_proto::{Fault, Reason};
use transship_transfer::Peer;

use super::arrival::{Arrival, AtWork};
use super::check::pullable;
use super::drive::drive;
use crate::facts::Handler;
use crate::host::Workspace;
use crate::node::Node;
use crate::plan::{Plan, Side};
use crate::runtime::sandbox_pid;
use crate::watchdog::Watchdog;

/// The label and annotation in which a kubelet, and whoever plays one, puts a Pod's UID.
const UID_LABEL: &str = "io.kubernetes.pod.uid";
/// How long the runtime may take from being asked for a container until its `create` waits.
const CREATE: Duration = Duration::from_secs(60);

/// Expects the workload of that source. Returns when every container waits in its `create`.
pub async fn prepare(
    node: &Arc<Node>,
    source: Peer,
    request: PrepareRequest,
) -> Result<PrepareResponse, Fault> {
    let invalid =
        |what: &str| Fault::new(Reason::InvalidArgument, format!("the request to prepare has {what}"));
    let migration: MigrationId = request.migration.parse().map_err(|_| invalid("no usable migration ID"))?;
    let workload = request.workload.ok_or_else(|| invalid("no workload"))?;
    let mut sandbox = workload.sandbox.ok_or_else(|| invalid("no sandbox"))?;
    let pod_uid = rename(&mut sandbox)?;
    let mut containers = Vec::new();
    for container in workload.containers {
        containers.push(equal_container(node, container, &sandbox, &pod_uid).await?);
    }
    let plan = Arrival {
        migration: migration.clone(),
        pod_uid: pod_uid.clone(),
        source_node: source.name,
        source_certificate: source.certificate.to_vec(),
        source_address: request.source_address,
        sandbox,
        oci_program: Handler::find(&node.cri, &workload.runtime_handler).await?.runtime()?,
        runtime_handler: workload.runtime_handler,
        containers,
        capacity: request.capacity,
    };
    let host_error = |error: String| Fault::new(Reason::HostError, error);
    Plan::Arrival(Box::new(plan.clone())).begin(&node.state, &migration)?;
    let lock = node.state.lock(&migration).map_err(|error| host_error(error.to_string()))?;
    // From here on nothing of this Pod starts empty.
    node.state
        .raise(Marker::Expected, &pod_uid, &migration)
        .map_err(|error| host_error(error.to_string()))?;
    let capacity = crate::faults::capacity(plan.capacity);
    let workspace = match Workspace::create(&node.run, &migration, capacity) {
        Ok(workspace) => workspace,
        Err(fault) => {
            let lowered = node.state.lower(Marker::Expected, &pod_uid, &migration);
            lowered.map_err(|error| host_error(error.to_string()))?;
            return Err(fault);
        }
    };
    let machine = Target::new(plan.names());
    let arrival = Arc::new(AtWork::new(plan, workspace, machine, lock));
    node.arrivals.add(Arc::clone(&arrival));
    // Looked at after it was added, so that a `kept` that comes at any time meets one or the other.
    if node.arrivals.is_refused(&migration) {
        arrival.give_up(Failure::new(
            Reason::Cancelled.as_ref(),
            "the source has kept it before it was prepared",
        ));
    }

    let made = make(node, &arrival).await;
    if let Err(fault) = &made {
        arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message.clone()));
    }
    made
}

async fn make(node: &Arc<Node>, arrival: &Arc<AtWork>) -> Result<PrepareResponse, Fault> {
    let made = sandbox(node, arrival).await;
    // Also where there is no sandbox: the driver discards what has been made so far.
    let driving = drive(Arc::clone(node), Arc::clone(arrival));
    if let Err(fault) = &made {
        arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message.clone()));
    }
    node.tasks.spawn(driving);
    let (sandbox_id, pod_ip) = made?;

    let plan = &arrival.plan;
    let waiting = arrival.until(|machine| {
        let all_wait = plan.names().all(|name| machine.is_waiting(&name));
        if all_wait { Some(Ok(())) } else { machine.trouble().map(|trouble| Err(trouble.clone())) }
    });
    let waited = tokio::time::timeout(CREATE, waiting).await;
    let late = |_| {
        Fault::new(
            Reason::RuntimeError,
            format!("the runtime didn't come to create the container within {CREATE:?}"),
        )
    };
    let from_failure = |failure: Failure| {
        Fault::new(failure.reason.parse().unwrap_or(Reason::RuntimeError), failure.message)
    };
    waited.map_err(late)?.map_err(from_failure)?;

    let filter = ContainerFilter { pod_sandbox_id: sandbox_id, ..ContainerFilter::default() };
    let container_ids =
        node.cri.containers(filter).await?.into_iter().map(|container| container.id).collect();
    Ok(PrepareResponse { pod_uid: plan.pod_uid.to_string(), pod_ip, container_ids })
}

/// Makes the sandbox, and gives its ID and its address.
async fn sandbox(node: &Node, arrival: &AtWork) -> Result<(String, String), Fault> {
    let plan = &arrival.plan;
    Watchdog::start(node, &plan.migration, Side::Target(plan)).await?;
    let id = node.cri.run_sandbox(&plan.sandbox, &plan.runtime_handler).await?;
    arrival.keep_sandbox_pid(sandbox_pid(&node.cri, &id).await?);
    let status = node.cri.sandbox(&id).await?.status.unwrap_or_default();
    Ok((id, status.network.unwrap_or_default().ip))
}

/// A UID of its own: a Pod that moves is another Pod, and a fence of the one that left must never meet it.
fn rename(sandbox: &mut PodSandboxConfig) -> Result<PodUid, Fault> {
    let uid = uuid::Uuid::new_v4().to_string();
    let metadata = sandbox.metadata.get_or_insert_default();
    let old = std::mem::replace(&mut metadata.uid, uid.clone());
    if let Some(linux) = &mut sandbox.linux
        && !old.is_empty()
    {
        linux.cgroup_parent = linux.cgroup_parent.replace(&old, &uid);
    }
    rename_in(&mut sandbox.labels, &uid);
    rename_in(&mut sandbox.annotations, &uid);
    uid.parse().map_err(|error| Fault::new(Reason::HostError, format!("{error}")))
}

fn rename_in(map: &mut HashMap<String, String>, uid: &str) {
    if let Some(old) = map.get_mut(UID_LABEL) {
        uid.clone_into(old);
    }
}

/// The same container, with the image as this node calls it.
async fn equal_container(
    node: &Node,
    container: WorkloadContainer,
    sandbox: &PodSandboxConfig,
    uid: &PodUid,
) -> Result<ContainerConfig, Fault> {
    let missing = || {
        Fault::new(Reason::InvalidArgument, "the request to prepare has a container without configuration")
    };
    let mut config = container.config.clone().ok_or_else(missing)?;
    rename_in(&mut config.labels, uid.as_str());
    rename_in(&mut config.annotations, uid.as_str());
    let held = node.cri.image(&container.image_id).await?;
    let reference = match held {
        Some(image) => image.id,
        None => pull(node, &container, sandbox).await?,
    };
    let asked = config.image.take().unwrap_or_default();
    config.image = Some(ImageSpec { image: reference, ..asked });
    Ok(config)
}

async fn pull(
    node: &Node,
    container: &WorkloadContainer,
    sandbox: &PodSandboxConfig,
) -> Result<String, Fault> {
    let mut last = None;
    for name in container.image_names.iter().filter(|name| pullable(name)) {
        let pulled = match node.cri.pull(name, sandbox).await {
            Ok(reference) => node.cri.image(&reference).await?,
            Err(fault) => {
                last = Some(fault.message);
                continue;
            }
        };
        match pulled {
            Some(image) if image.id == container.image_id => return Ok(image.id),
            _ => {
                last =
                    Some(format!("{name} is another image now than the one that the container was made from"))
            }
        }
    }
    let what = format!(
        "the image {} can't be had here: {}",
        container.image_id,
        last.unwrap_or_else(|| "it has no name to be pulled by".into())
    );
    Err(Fault::new(Reason::ImageUnavailable, what))
}

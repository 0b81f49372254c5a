//! An equal sandbox, the first of whose containers waits in the runtime's `create`; or the expectation of one that a
//! kubelet makes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use transship_decision::{Failure, Marker, MigrationId, PodUid, Target};
use transship_proto::cri::{
    ContainerConfig, ContainerFilter, ContainerMetadata, ImageSpec, PodSandboxConfig,
};
use transship_proto::v1::{PodIdentity, PrepareRequest, PrepareResponse, Workload, WorkloadContainer};
use transship_proto::{Fault, Reason};
use transship_transfer::Peer;

use super::arrival::{Arrival, AtWork};
use super::check::pullable;
use super::drive::drive;
use crate::facts::Handler;
use crate::host::Workspace;
use crate::node::Node;
use crate::plan::{Owner, Plan, Side};
use crate::runtime::sandbox_pid;
use crate::watchdog::Watchdog;

/// The label and annotation in which a kubelet, and whoever plays one, puts a Pod's UID.
const UID_LABEL: &str = "io.kubernetes.pod.uid";
/// How long the runtime may take from being asked for a container until its `create` waits.
const CREATE: Duration = Duration::from_secs(60);

/// Expects the workload of that source. Returns when every container is made and the first that was started waits in
/// its `create`; the others are started as the one before them has been restored. Where a kubelet makes them: at once.
pub async fn prepare(
    node: &Arc<Node>,
    source: Peer,
    request: PrepareRequest,
) -> Result<PrepareResponse, Fault> {
    let invalid =
        |what: &str| Fault::new(Reason::InvalidArgument, format!("the request to prepare has {what}"));
    let migration: MigrationId = request.migration.parse().map_err(|_| invalid("no usable migration ID"))?;
    let workload = request.workload.ok_or_else(|| invalid("no workload"))?;
    let handler = workload.runtime_handler.clone();
    let oci_program = Handler::find(&node.cri, &handler).await?.runtime()?;
    let Equal { owner, pod_uid, sandbox, containers } = match request.pod {
        Some(pod) => of_kubelet(node, &pod, workload).await?,
        None => of_agent(node, workload).await?,
    };
    let names: HashSet<_> =
        containers.iter().map(|one| one.metadata.clone().unwrap_or_default().name).collect();
    if containers.is_empty() || names.len() < containers.len() {
        return Err(invalid("no container, or two of one name"));
    }
    let plan = Arrival {
        migration: migration.clone(),
        pod_uid: pod_uid.clone(),
        owner,
        source_node: source.name,
        source_certificate: source.certificate.to_vec(),
        source_address: request.source_address,
        sandbox,
        oci_program,
        runtime_handler: handler,
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

    let made = match owner {
        Owner::Agent => make(node, &arrival).await,
        Owner::Kubelet => expect(node, &arrival).await,
    };
    if let Err(fault) = &made {
        arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message.clone()));
    }
    made
}

/// What is to become equal to the source.
struct Equal {
    owner: Owner,
    pod_uid: PodUid,
    sandbox: PodSandboxConfig,
    containers: Vec<ContainerConfig>,
}

/// What this agent makes by itself.
async fn of_agent(node: &Node, workload: Workload) -> Result<Equal, Fault> {
    let missing = || Fault::new(Reason::InvalidArgument, "the request to prepare has no sandbox");
    let mut sandbox = workload.sandbox.ok_or_else(missing)?;
    let pod_uid = rename(&mut sandbox)?;
    let mut containers = Vec::new();
    for container in workload.containers {
        containers.push(equal_container(node, container, &sandbox, &pod_uid).await?);
    }
    Ok(Equal { owner: Owner::Agent, pod_uid, sandbox, containers })
}

/// What the kubelet makes of what the API server says: of the source's own only the containers' names are used.
async fn of_kubelet(node: &Node, pod: &PodIdentity, workload: Workload) -> Result<Equal, Fault> {
    let invalid = |what: String| Fault::new(Reason::InvalidArgument, what);
    let pod_uid: PodUid = pod.uid.parse().map_err(|error| invalid(format!("{error}")))?;
    // Whoever has a node's certificate may ask: what runs here already is not to be stopped by it.
    for sandbox in node.cri.sandboxes_of(&pod.uid).await? {
        let filter = ContainerFilter { pod_sandbox_id: sandbox, ..ContainerFilter::default() };
        if !node.cri.containers(filter).await?.is_empty() {
            let what = format!(
                "Pod {}/{} ({pod_uid}) has containers on {} already; only a Pod that was never started can be expected",
                pod.namespace,
                pod.name,
                node.name()
            );
            return Err(invalid(what));
        }
    }
    let named = |container: WorkloadContainer| {
        let name = container.config.unwrap_or_default().metadata.unwrap_or_default().name;
        let metadata = Some(ContainerMetadata { name, attempt: 0 });
        ContainerConfig { metadata, ..ContainerConfig::default() }
    };
    Ok(Equal {
        owner: Owner::Kubelet,
        pod_uid,
        sandbox: PodSandboxConfig::default(),
        containers: workload.containers.into_iter().map(named).collect(),
    })
}

/// Waits for a kubelet from now on.
async fn expect(node: &Arc<Node>, arrival: &Arc<AtWork>) -> Result<PrepareResponse, Fault> {
    let plan = &arrival.plan;
    let watched = Watchdog::start(node, &plan.migration, Side::Target(plan)).await;
    if let Err(fault) = &watched {
        arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message.clone()));
    }
    node.tasks.spawn(drive(Arc::clone(node), Arc::clone(arrival)));
    watched?;
    Ok(PrepareResponse { pod_uid: plan.pod_uid.to_string(), ..PrepareResponse::default() })
}

async fn make(node: &Arc<Node>, arrival: &Arc<AtWork>) -> Result<PrepareResponse, Fault> {
    let made = sandbox(node, arrival).await;
    // Also where there is no sandbox: the driver discards what has been made so far.
    let driving = drive(Arc::clone(node), Arc::clone(arrival));
    if let Err(fault) = &made {
        arrival.give_up(Failure::new(fault.reason.as_ref(), fault.message.clone()));
    }
    node.tasks.spawn(driving);
    let (container_ids, pod_ip) = made?;

    let plan = &arrival.plan;
    let waiting = arrival.until(|machine| {
        let one_waits = plan.names().any(|name| machine.is_waiting(&name));
        if one_waits { Some(Ok(())) } else { machine.trouble().map(|trouble| Err(trouble.clone())) }
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
    Ok(PrepareResponse { pod_uid: plan.pod_uid.to_string(), pod_ip, container_ids })
}

/// Makes the sandbox and the containers in it, and gives their IDs and its address.
async fn sandbox(node: &Node, arrival: &AtWork) -> Result<(Vec<String>, String), Fault> {
    let plan = &arrival.plan;
    Watchdog::start(node, &plan.migration, Side::Target(plan)).await?;
    let id = node.cri.run_sandbox(&plan.sandbox, &plan.runtime_handler).await?;
    arrival.keep_sandbox_pid(sandbox_pid(&node.cri, &id).await?);
    let status = node.cri.sandbox(&id).await?.status.unwrap_or_default();
    let mut container_ids = Vec::new();
    for (name, config) in plan.names().zip(&plan.containers) {
        let container_id = node.cri.create_container(&id, &plan.sandbox, config).await?;
        arrival.keep_made(name, container_id.clone());
        container_ids.push(container_id);
    }
    Ok((container_ids, status.network.unwrap_or_default().ip))
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

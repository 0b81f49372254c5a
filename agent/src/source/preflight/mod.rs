//! Whether a Pod's containers can be captured here and restored there: found out before anything stands still.

mod config;
mod files;
mod shared;
mod tasks;

use std::path::Path;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use transship_dial::{Dialled, dial, explain};
use transship_freezer::{Cgroup, State};
use transship_proto::cri::ContainerState;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{CheckRequest, NodeFacts};
use transship_proto::{Fault, Reason};

use crate::facts::{self, Handler};
use crate::grants::Judge;
use crate::host::process::{self, TaskGroup};
use crate::host::{CGROUPS, failed};
use crate::node::Node;
use crate::plan::Owner;
use crate::pods::volumes::{self, EmptyDir};
use crate::runtime::{Bundle, Inspected, InspectedPod, inspect};

/// A Pod that can be moved, and the node that can take it.
#[derive(Debug)]
pub struct Cleared {
    /// The Pod.
    pub pod: InspectedPod,
    /// For each of its containers, the cgroup that all its tasks are in.
    pub cgroups: Vec<Cgroup>,
    /// The target's agent.
    pub target: Dialled,
    /// The volumes that follow it.
    pub volumes: Vec<EmptyDir>,
    /// Bytes that its processes hold in memory.
    pub memory: u64,
    /// What this node is.
    pub own_facts: NodeFacts,
    /// What the target is.
    pub target_facts: NodeFacts,
    /// An upper bound of the state's size, in bytes.
    pub capacity: u64,
    /// What the workload may notice.
    pub warnings: Vec<String>,
}

/// Room for everything that isn't memory or a changed file: CRIU's own images and logs.
const SLACK: u64 = 256 << 20;

/// Looks at the Pod and asks the target.
pub async fn preflight(node: &Node, wanted: &str, address: &str, owner: Owner) -> Result<Cleared, Fault> {
    let mut pod = inspect(&node.cri, wanted).await?;
    let handler = wrapper(&pod)?;
    let looked = look(&pod)?;
    let volumes = match owner {
        // What is mounted is for the target to have.
        Owner::Agent => Vec::new(),
        Owner::Kubelet => volumes_of(&mut pod)?,
    };
    let own = facts::gather(node.name(), &node.cri, &handler).await?;
    if !own.runtime.starts_with("runc ") {
        let what =
            format!("{} runs containers by {}; this version moves what runc runs", own.node, own.runtime);
        return Err(Fault::new(Reason::NoCapturePath, what));
    }

    let target = dial(&node.identity, address).await?;
    if target.peer.name == node.name() {
        return Err(Fault::new(Reason::SameNode, format!("{address} is this very node; name another one")));
    }
    let folders = pod.containers.iter().map(|container| container.upper.as_path()).chain(pod.shm.as_deref());
    let folders = folders.chain(volumes.iter().map(|volume| volume.path.as_path()));
    let files = folders.map(folder_size).sum::<Result<u64, _>>()?;
    let memory = looked.memory;
    // Only what is used takes room, and a workload may grow until it is frozen.
    let capacity = 2 * (memory + files) + SLACK;
    let request = CheckRequest {
        workload: Some(pod.workload.clone()),
        source: Some(own.clone()),
        memory: memory + files,
    };
    let answer = TargetClient::new(target.channel.clone()).check(request).await;
    let answer = answer.map_err(|status| told(address, status))?.into_inner();
    if let Some(refusal) = answer.refusals.into_iter().next() {
        return Err(Fault::new(refusal.reason.parse().unwrap_or(Reason::NoRestorePath), refusal.message));
    }
    Ok(Cleared {
        pod,
        cgroups: looked.cgroups,
        target,
        volumes,
        memory,
        own_facts: own,
        target_facts: answer.target.unwrap_or_default(),
        capacity,
        warnings: looked.warnings,
    })
}

/// The volumes that follow a kubelet's Pod. Its mounts are the target's kubelet's to make.
fn volumes_of(pod: &mut InspectedPod) -> Result<Vec<EmptyDir>, Fault> {
    let configs = pod.workload.containers.iter_mut().filter_map(|container| container.config.as_mut());
    let looked = volumes::look(configs, &pod.uid)?;
    match looked.refusals.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(looked.empty_dirs),
    }
}

/// The handler under which every container runs: the wrapper.
fn wrapper(pod: &InspectedPod) -> Result<Handler, Fault> {
    let mut handlers =
        pod.containers.iter().map(|container| (&container.name, Handler::of_program(&container.oci.program)));
    if let Some((name, handler)) = handlers.clone().find(|(_, handler)| !handler.wrapped) {
        let what = format!(
            "container {name} runs under {}, so nothing would keep it from being started a second time here; make {} the node's runtime and start the container anew",
            handler.program.display(),
            facts::WRAPPER
        );
        return Err(Fault::new(Reason::NoSourceFence, what));
    }
    let none = || Fault::new(Reason::ContainerNotRunning, format!("Pod {} has no container", pod.name));
    handlers.next().map(|(_, handler)| handler).ok_or_else(none)
}

/// What a failed call to the target's agent means: what it says itself, or why it can't be reached.
pub fn told(address: &str, status: tonic::Status) -> Fault {
    match std::error::Error::source(&status) {
        Some(transport) => explain(address, transport),
        None => Fault::from(status),
    }
}

/// What was seen of a Pod that can be captured.
struct Looked {
    cgroups: Vec<Cgroup>,
    /// Bytes that its processes hold in memory.
    memory: u64,
    warnings: Vec<String>,
}

fn look(pod: &InspectedPod) -> Result<Looked, Fault> {
    let sandbox = pod.workload.sandbox.clone().unwrap_or_default();
    let (mut cgroups, mut groups) = (Vec::new(), Vec::new());
    for (container, equal) in pod.containers.iter().zip(&pod.workload.containers) {
        let config = equal.config.clone().unwrap_or_default();
        let (cgroup, own) = look_at_tasks(pod, container, config::refusals(&sandbox, &config))?;
        cgroups.push(cgroup);
        groups.push(own);
    }
    let named: Vec<_> = pod.containers.iter().map(|one| one.name.as_str()).zip(&groups).collect();
    let unreadable = |error: procfs::ProcError| {
        let what = format!("the processes of Pod {} can't be looked at: {error}", pod.name);
        Fault::new(Reason::ContainerNotRunning, what)
    };
    if let Some(first) = shared::refusals(&named).map_err(unreadable)?.into_iter().next() {
        return Err(first);
    }
    let groups = groups.concat();
    Ok(Looked {
        cgroups,
        memory: groups.iter().map(|group| group.resident).sum(),
        warnings: connection_warnings(pod.sandbox_pid, &groups).map_err(unreadable)?,
    })
}

/// The container's cgroup and what runs in it; `refusals` are those of its configuration.
fn look_at_tasks(
    pod: &InspectedPod,
    container: &Inspected,
    mut refusals: Vec<Fault>,
) -> Result<(Cgroup, Vec<TaskGroup>), Fault> {
    let id = &container.container_id;
    let unreadable = |error: procfs::ProcError| {
        Fault::new(
            Reason::ContainerNotRunning,
            format!("the processes of container {id} can't be looked at: {error}"),
        )
    };
    let cgroup = Cgroup::of_pid(container.pid, CGROUPS.as_ref())
        .map_err(|error| Fault::new(Reason::HostError, format!("the cgroup of container {id}: {error}")))?;
    match cgroup.state() {
        Ok(State::Thawed) => {}
        Ok(_) => {
            let what =
                format!("container {id} is paused; let it run first, whoever paused it may count on that");
            return Err(Fault::new(Reason::ContainerPaused, what));
        }
        Err(error) => {
            return Err(Fault::new(Reason::HostError, format!("the freezer of container {id}: {error}")));
        }
    }
    let pids = cgroup.processes().map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    let groups = process::look(pids).map_err(unreadable)?;

    if let Some(file) = Bundle::read(&container.bundle)?.criu_config() {
        let what = format!(
            "the container's bundle names its own CRIU configuration, {file}; remove the annotation org.criu.config"
        );
        refusals.push(Fault::new(Reason::CriuConfigInBundle, what));
    }
    refusals.extend(tasks::refusals(&groups, container.pid).map_err(unreadable)?);
    refusals.extend(files::refusals(&groups).map_err(unreadable)?);
    if let Some(first) = refusals.into_iter().next() {
        return Err(first);
    }
    Judge::of(&container.bundle, &pod.sandbox_id, pod.sandbox_pid)?.running_tasks(|| {
        cgroup.processes().map_err(|error| Fault::new(Reason::HostError, error.to_string()))
    })?;
    Ok((cgroup, groups))
}

/// Established connections of these processes, which are closed by the move. `init` is a process of their network.
fn connection_warnings(init: u32, groups: &[TaskGroup]) -> procfs::ProcResult<Vec<String>> {
    let mut sockets = std::collections::HashSet::new();
    for group in groups {
        let Some(process) = tasks::still_there(Process::new(group.pid.cast_signed()))? else { continue };
        for file in tasks::still_there(process.fd())?.into_iter().flatten().flatten() {
            if let FDTarget::Socket(inode) = file.target {
                sockets.insert(inode);
            }
        }
    }
    let init = Process::new(init.cast_signed())?;
    let entries = init.tcp()?.into_iter().chain(init.tcp6().unwrap_or_default());
    let held = entries.filter(|entry| entry.state == TcpState::Established && sockets.contains(&entry.inode));
    // One between two of these processes has both its ends here.
    let ends = held.map(|entry| {
        let (one, other) = (entry.local_address, entry.remote_address);
        (one.min(other), one.max(other))
    });
    let open = ends.collect::<std::collections::HashSet<_>>().len();
    Ok((open > 0).then(|| format!("{open} established TCP connections will be closed")).into_iter().collect())
}

/// Bytes of the files below a folder, as far as they take room.
fn folder_size(path: &Path) -> Result<u64, Fault> {
    use std::os::unix::fs::MetadataExt;
    let mut size = 0;
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).map_err(failed(format_args!("reading {}", folder.display())))?
        {
            let entry = entry.map_err(failed(format_args!("reading {}", folder.display())))?;
            // A file may go while it is counted.
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            size += 4096 + metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(size)
}

/// The container is still the one that was looked at, and its runtime still calls it running.
pub async fn still_running(node: &Node, id: &str) -> Result<(), Fault> {
    match node.cri.container_state(id).await? {
        Some(ContainerState::ContainerRunning) => Ok(()),
        other => {
            let what = format!(
                "the runtime calls container {id} {} now",
                other.map_or("unknown", |state| state.as_str_name())
            );
            Err(Fault::new(Reason::WorkloadEnded, what))
        }
    }
}

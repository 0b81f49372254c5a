//! Whether a container can be captured here and restored there: found out before anything stands still.

mod config;
mod files;
mod tasks;

use std::path::Path;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process};
use transship_freezer::{Cgroup, State};
use transship_proto::cri::ContainerState;
use transship_proto::v1::CheckRequest;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::{Fault, Reason};

use crate::facts::{self, Handler};
use crate::grants::Judge;
use crate::host::{CGROUPS, failed, process};
use crate::node::Node;
use crate::rpc::{Dialled, dial, explain};
use crate::runtime::{Bundle, Inspected, inspect, running_in};

/// A container that can be moved, and the node that can take it.
#[derive(Debug)]
pub struct Cleared {
    /// The container.
    pub container: Inspected,
    /// The cgroup that all its tasks are in.
    pub cgroup: Cgroup,
    /// The target's agent.
    pub target: Dialled,
    /// An upper bound of the state's size, in bytes.
    pub capacity: u64,
    /// What the workload may notice.
    pub warnings: Vec<String>,
}

/// Room for everything that isn't memory or a changed file: CRIU's own images and logs.
const SLACK: u64 = 256 << 20;

/// Looks at the container and asks the target.
pub async fn preflight(node: &Node, wanted: &str, address: &str) -> Result<Cleared, Fault> {
    let container = inspect(&node.cri, wanted).await?;
    let handler = Handler::of_program(&container.oci.program);
    if !handler.wrapped {
        let what = format!(
            "container {wanted} runs under {}, so nothing would keep it from being started a second time here; make {} the node's runtime and start the container anew",
            container.oci.program.display(),
            facts::WRAPPER
        );
        return Err(Fault::new(Reason::NoSourceFence, what));
    }
    let siblings = node.cri.containers(running_in(&container.sandbox_id)).await?;
    if siblings.len() > 1 {
        let what =
            format!("the sandbox of {wanted} has {} containers; this version moves one", siblings.len());
        return Err(Fault::new(Reason::SeveralContainers, what));
    }
    let (cgroup, memory, warnings) = look_at_tasks(&container)?;
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
    let files = folder_size(&container.upper)? + container.shm.as_deref().map_or(Ok(0), folder_size)?;
    // Only what is used takes room, and a workload may grow until it is frozen.
    let capacity = 2 * (memory + files) + SLACK;
    let request = CheckRequest {
        workload: Some(container.workload.clone()),
        source: Some(own),
        memory: memory + files,
    };
    let answer = TargetClient::new(target.channel.clone()).check(request).await;
    let answer = answer.map_err(|status| told(address, status))?.into_inner();
    if let Some(refusal) = answer.refusals.into_iter().next() {
        return Err(Fault::new(refusal.reason.parse().unwrap_or(Reason::NoRestorePath), refusal.message));
    }
    Ok(Cleared { container, cgroup, target, capacity, warnings })
}

/// What a failed call to the target's agent means: what it says itself, or why it can't be reached.
pub fn told(address: &str, status: tonic::Status) -> Fault {
    match std::error::Error::source(&status) {
        Some(transport) => explain(address, transport),
        None => Fault::from(status),
    }
}

fn look_at_tasks(container: &Inspected) -> Result<(Cgroup, u64, Vec<String>), Fault> {
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

    let sandbox = container.workload.sandbox.clone().unwrap_or_default();
    let config = container.workload.containers.first().and_then(|one| one.config.clone()).unwrap_or_default();
    let mut refusals = config::refusals(&sandbox, &config);
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
    Judge::of(&container.bundle, &container.sandbox_id, container.sandbox_pid)?.running_tasks(|| {
        cgroup.processes().map_err(|error| Fault::new(Reason::HostError, error.to_string()))
    })?;

    let memory = groups.iter().map(|group| group.resident).sum();
    Ok((cgroup, memory, connection_warnings(container.pid, &groups).map_err(unreadable)?))
}

/// Established connections of these processes, which are closed by the move.
fn connection_warnings(init: u32, groups: &[process::TaskGroup]) -> procfs::ProcResult<Vec<String>> {
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
    let open = entries
        .filter(|entry| entry.state == TcpState::Established && sockets.contains(&entry.inode))
        .count();
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

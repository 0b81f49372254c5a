//! What came here and isn't to run goes again, and with it what a restore leaves that was killed half-way: tasks that
//! no runtime knows, CRIU's mount of their root, the runtime's folder, their cgroups.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use transship_decision::ContainerId;
use transship_freezer::Cgroup;
use transship_proto::cri::{ContainerFilter, ContainerState};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use crate::host::{CGROUPS, blocking, failed, remove_abandoned_folders, remove_empty_parent, unmount_below};
use crate::node::Node;
use crate::plan::Owner;
use crate::runtime::oci_runtime_of;

/// How long what is killed may take to be gone.
const END: Duration = Duration::from_secs(5);
/// How often the container runtime is asked whether it has noticed.
const TICK: Duration = Duration::from_millis(10);
/// How deep container runtimes put a container's cgroup below the root.
const DEPTH: usize = 8;

/// Removes the sandbox with all that is in it. A kubelet's is left to it, with nothing in it that runs.
pub async fn everything(node: &Node, arrival: &AtWork) -> Result<(), Fault> {
    end_restores(arrival).await?;
    let plan = &arrival.plan;
    for sandbox in node.cri.sandboxes_of(plan.pod_uid.as_str()).await? {
        let remains = Remains::of(node, &sandbox, |name| plan.names().any(|own| own == name)).await?;
        remains.end(node).await?;
        match plan.owner {
            Owner::Agent => node.cri.remove_sandbox(&sandbox).await?,
            Owner::Kubelet => remains.ended(node).await?,
        }
        remains.clear().await?;
    }
    if plan.owner == Owner::Kubelet {
        return Ok(());
    }
    remove_empty_parent(plan.sandbox.linux.as_ref().map_or("", |linux| &linux.cgroup_parent))
}

/// Removes what is left of a container's last restore, so that it can be restored again.
pub async fn container(node: &Node, arrival: &AtWork, name: &str) -> Result<(), Fault> {
    end_restore(arrival, arrival.plan.container(name)?.0).await?;
    for sandbox in node.cri.sandboxes_of(arrival.plan.pod_uid.as_str()).await? {
        let remains = Remains::of(node, &sandbox, |container| container == name).await?;
        remains.end(node).await?;
        match arrival.plan.owner {
            Owner::Agent => node.cri.remove_container_named(&sandbox, name).await?,
            // It makes another, and removes this one some time.
            Owner::Kubelet => remains.ended(node).await?,
        }
        remains.clear().await?;
    }
    Ok(())
}

/// No CRIU works on a restore any more.
pub async fn end_restores(arrival: &AtWork) -> Result<(), Fault> {
    for number in 0..arrival.plan.containers.len() {
        end_restore(arrival, number).await?;
    }
    Ok(())
}

async fn end_restore(arrival: &AtWork, number: usize) -> Result<(), Fault> {
    let cgroup = arrival.restore_cgroup(number)?;
    let ending = move || {
        cgroup.kill(END).map_err(|error| error.to_string())?;
        cgroup.remove().map_err(|error| error.to_string())
    };
    blocking(move || {
        ending().map_err(|error: String| {
            Fault::new(Reason::HostError, format!("CRIU can't be ended: {error}"))
        })?;
        remove_abandoned_folders()
    })
    .await
}

/// Containers that are to go, each with the OCI runtime's own folder of it.
#[derive(Debug, Clone)]
struct Remains(Vec<(ContainerId, PathBuf)>);

impl Remains {
    /// The containers of those names in a sandbox.
    async fn of(node: &Node, sandbox: &str, named: impl Fn(&str) -> bool) -> Result<Self, Fault> {
        let filter = ContainerFilter { pod_sandbox_id: sandbox.into(), ..ContainerFilter::default() };
        let mut found = Vec::new();
        for container in node.cri.containers(filter).await? {
            let Ok(id) = container.id.parse::<ContainerId>() else { continue };
            if container.metadata.is_some_and(|data| named(&data.name)) {
                let folder = oci_runtime_of(&node.cri, id.as_str()).await?.root.join(id.as_str());
                found.push((id, folder));
            }
        }
        Ok(Self(found))
    }

    /// None of their tasks is left, and no `start` finds a mark that calls it restored.
    async fn end(&self, node: &Node) -> Result<(), Fault> {
        for (id, _) in &self.0 {
            let mark = node.run.restored_path(id);
            unless_gone(fs::remove_file(&mark), || format!("removing {}", mark.display()))?;
        }
        let all = self.clone();
        blocking(move || {
            for cgroup in all.cgroups().iter().filter_map(|path| Cgroup::at(path).ok()) {
                cgroup.kill(END).map_err(|error| {
                    Fault::new(Reason::HostError, format!("what was restored can't be ended: {error}"))
                })?;
            }
            Ok::<_, Fault>(())
        })
        .await
    }

    /// The container runtime has noticed, and has removed what it knows how to remove.
    async fn ended(&self, node: &Node) -> Result<(), Fault> {
        let noticed = async {
            for (id, _) in &self.0 {
                while node.cri.container_state(id.as_str()).await? == Some(ContainerState::ContainerRunning) {
                    tokio::time::sleep(TICK).await;
                }
            }
            Ok(())
        };
        let late = |_| {
            let what = format!("the runtime still calls a container running that was killed {END:?} ago");
            Err(Fault::new(Reason::RuntimeError, what))
        };
        tokio::time::timeout(END, noticed).await.unwrap_or_else(late)
    }

    /// Removes what the runtime has left of them, if anything.
    async fn clear(self) -> Result<(), Fault> {
        blocking(move || {
            for (_, folder) in self.0.iter().filter(|(_, folder)| folder.exists()) {
                unmount_below(folder)?;
                unless_gone(fs::remove_dir_all(folder), || format!("removing {}", folder.display()))?;
            }
            for path in self.cgroups() {
                unless_gone(fs::remove_dir(&path), || format!("removing {}", path.display()))?;
            }
            Ok::<_, Fault>(())
        })
        .await
    }

    /// Their cgroups in all hierarchies, found by their IDs: every runtime and driver has its own way to the name.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.search(Path::new(CGROUPS), DEPTH, &mut found);
        found
    }

    fn search(&self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        // One that goes while it is looked at is gone.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if depth > 0 {
                self.search(&entry.path(), depth - 1, found);
            }
            let name = entry.file_name();
            if self.0.iter().any(|(id, _)| name.to_string_lossy().contains(id.as_str())) {
                found.push(entry.path());
            }
        }
    }
}

fn unless_gone(result: std::io::Result<()>, doing: impl FnOnce() -> String) -> Result<(), Fault> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(doing())(error)),
        _ => Ok(()),
    }
}

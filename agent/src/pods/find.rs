//! A Pod as this node's container runtime has it.

use transship_proto::cri::{ContainerFilter, ContainerState, PodSandboxState};
use transship_proto::v1::PodIdentity;
use transship_proto::{Fault, Reason};

use crate::runtime::Cri;

/// The ID of a running container of that Pod, whose sandbox stands for the whole.
pub async fn running_container(cri: &Cri, pod: &PodIdentity) -> Result<String, Fault> {
    let PodIdentity { namespace, name, uid } = pod;
    let mut sandboxes = cri.pod(uid).await?;
    sandboxes.retain(|sandbox| sandbox.state() == PodSandboxState::SandboxReady);
    let Some(sandbox) = sandboxes.into_iter().next() else {
        let what = format!(
            "no sandbox of Pod {namespace}/{name} ({uid}) is ready on this node; is it there, and running?"
        );
        return Err(Fault::new(Reason::PodNotFound, what));
    };
    let metadata = sandbox.metadata.unwrap_or_default();
    if (&metadata.namespace, &metadata.name) != (namespace, name) {
        let what = format!(
            "the Pod with the UID {uid} is {}/{} here, not {namespace}/{name}",
            metadata.namespace, metadata.name
        );
        return Err(Fault::new(Reason::InvalidArgument, what));
    }
    let filter = ContainerFilter { pod_sandbox_id: sandbox.id, ..ContainerFilter::default() };
    let containers = cri.containers(filter).await?;
    let running = containers.into_iter().find(|one| one.state() == ContainerState::ContainerRunning);
    running.map(|container| container.id).ok_or_else(|| {
        let what = format!("no container of Pod {namespace}/{name} runs; only a running Pod can be moved");
        Fault::new(Reason::ContainerNotRunning, what)
    })
}

/// Whether anything of a Pod is up here: what its kubelet has ended for good may lie about for a while.
pub async fn stands(cri: &Cri, pod_uid: &str) -> Result<bool, Fault> {
    let sandboxes = cri.pod(pod_uid).await?;
    Ok(sandboxes.iter().any(|sandbox| sandbox.state() == PodSandboxState::SandboxReady))
}

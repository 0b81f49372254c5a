//! Whether this node can take a workload. Changes nothing.

use std::path::Path;

use procfs::{Current, Meminfo};
use transship_proto::v1::{CheckRequest, CheckResponse, NodeFacts, Refusal, Workload};
use transship_proto::{Fault, Reason, mismatches};

use crate::facts::{self, Handler, WRAPPER};
use crate::node::Node;

/// Everything that speaks against it, and what this node is.
pub async fn check(node: &Node, request: &CheckRequest) -> Result<CheckResponse, Fault> {
    let workload = request.workload.clone().unwrap_or_default();
    let handler = Handler::find(&node.cri, &workload.runtime_handler).await?;
    let own = facts::gather(node.name(), &node.cri, &handler).await?;
    let mut found = Vec::new();
    if !handler.wrapped {
        let what = format!(
            "{} runs containers under {}; make {WRAPPER} the node's runtime",
            node.name(),
            handler.program.display()
        );
        found.push(Fault::new(Reason::NoRestorePath, what));
    }
    found.extend(mismatches(request.source.as_ref().unwrap_or(&NodeFacts::default()), &own));
    found.extend(missing_paths(node.name(), &workload));
    found.extend(missing_images(node, &workload).await?);
    found.extend(too_little_memory(node.name(), request.memory)?);
    let refusals =
        found.into_iter().map(|fault| Refusal { reason: fault.reason.to_string(), message: fault.message });
    Ok(CheckResponse { refusals: refusals.collect(), target: Some(own) })
}

fn missing_paths(node: &str, workload: &Workload) -> Vec<Fault> {
    let configs = workload.containers.iter().filter_map(|container| container.config.as_ref());
    let mounts = configs.flat_map(|config| &config.mounts);
    let missing = mounts.filter(|mount| !mount.host_path.is_empty() && !Path::new(&mount.host_path).exists());
    let refuse = |mount: &transship_proto::cri::Mount| {
        let what = format!(
            "{node} has no {}, which the container has mounted at {}; make it there, or move the container without that mount",
            mount.host_path, mount.container_path
        );
        Fault::new(Reason::HostPathMissing, what)
    };
    missing.map(refuse).collect()
}

/// Images that this node doesn't hold and that have no name it could be pulled by. Pulling itself is left to `prepare`.
async fn missing_images(node: &Node, workload: &Workload) -> Result<Vec<Fault>, Fault> {
    let mut found = Vec::new();
    for container in &workload.containers {
        if node.cri.image(&container.image_id).await?.is_some() {
            continue;
        }
        if !container.image_names.iter().any(|name| pullable(name)) {
            let what = format!(
                "{} doesn't hold the image {} and it has no name to be pulled by; import it there",
                node.name(),
                container.image_id
            );
            found.push(Fault::new(Reason::ImageUnavailable, what));
        }
    }
    Ok(found)
}

/// An ID alone, or a name without a registry, can't be pulled.
pub(super) fn pullable(name: &str) -> bool {
    name.split_once('/').is_some_and(|(registry, _)| registry.contains(['.', ':']) || registry == "localhost")
}

fn too_little_memory(node: &str, needed: u64) -> Result<Option<Fault>, Fault> {
    let info = Meminfo::current()
        .map_err(|error| Fault::new(Reason::HostError, format!("/proc/meminfo can't be read: {error}")))?;
    let available = info.mem_available.unwrap_or(info.mem_free);
    // For a while the state lies there twice: as images and as the restored process.
    let twice = needed.saturating_mul(2);
    Ok((available < twice).then(|| {
        let what = format!(
            "{node} has {} MiB of memory available, the state needs {} MiB for a while (twice its size)",
            available >> 20,
            twice >> 20
        );
        Fault::new(Reason::InsufficientMemory, what)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use transship_proto::cri::{ContainerConfig, Mount};
    use transship_proto::v1::WorkloadContainer;

    #[test]
    fn only_a_name_with_its_registry_can_be_pulled() {
        assert!(
            pullable("registry.example:5000/app:v1")
                && pullable("localhost/app")
                && pullable("docker.io/library/redis")
        );
        assert!(!pullable("sha256:0123") && !pullable("app:v1"));
    }

    #[test]
    fn a_missing_host_path_is_named_with_its_place_in_the_container() {
        let mount =
            Mount { host_path: "/no/such/folder".into(), container_path: "/data".into(), ..Mount::default() };
        let config = Some(ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() });
        let workload = Workload {
            containers: vec![WorkloadContainer { config, ..WorkloadContainer::default() }],
            ..Workload::default()
        };
        let found = missing_paths("b", &workload);
        assert_eq!(found[0].reason, Reason::HostPathMissing);
        assert!(found[0].message.contains("/no/such/folder") && found[0].message.contains("/data"));
    }

    #[test]
    fn more_than_there_is_is_refused_with_figures() {
        assert_eq!(too_little_memory("b", 1).unwrap(), None);
        assert_eq!(too_little_memory("b", 1 << 60).unwrap().unwrap().reason, Reason::InsufficientMemory);
    }
}

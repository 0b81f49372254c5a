//! A kubelet, played by the tests: it makes Pods with a folder of their own, and starts their containers one by one.

use anyhow::{Context, Result, ensure};
use transship_lab::{Container, Lab, NodeName, Workload, until};
use transship_proto::cri::{ContainerConfig, ContainerState, Mount};
use transship_proto::v1::PodIdentity;

use crate::node::SOON;

/// Where a kubelet keeps the Pods' folders. A real one's is /var/lib/kubelet.
const PODS: &str = "/srv/kubelet/pods";
/// Where every container finds the volume, and where that lies in the Pod's folder.
pub const VOLUME: &str = "/cache";
const VOLUME_IN_POD: &str = "volumes/kubernetes.io~empty-dir/cache";

/// A Pod as an API server would have it.
#[derive(Clone)]
pub struct Pod {
    workload: Workload,
    containers: Vec<(&'static str, Vec<String>)>,
}

impl Pod {
    /// One of containers of that image, each with its name and arguments.
    pub fn new(name: &str, image: &str, containers: &[(&'static str, &[&str])]) -> Self {
        let owned = |arguments: &[&str]| arguments.iter().map(|&argument| argument.to_owned()).collect();
        let containers = containers.iter().map(|(name, arguments)| (*name, owned(arguments))).collect();
        Self { workload: Workload::new(name, image), containers }
    }

    /// Another Pod like this one.
    pub fn twin(&self) -> Self {
        let uid = Workload::new(&self.workload.name, &self.workload.image).uid;
        Self { workload: Workload { uid, ..self.workload.clone() }, containers: self.containers.clone() }
    }

    /// As the API server names it.
    pub fn identity(&self) -> PodIdentity {
        PodIdentity {
            namespace: "default".to_owned(),
            name: self.workload.name.clone(),
            uid: self.workload.uid.clone(),
        }
    }

    /// Makes it on a node; gives its first container. Nothing is left of it if one can't be started.
    pub fn start(&self, lab: &Lab, on: NodeName) -> Result<Container> {
        let node = lab.node(on);
        let reference = node.image_of(&self.workload)?;
        let folder = format!("{PODS}/{}", self.workload.uid);
        node.run(&["mkdir", "-p", &format!("{folder}/{VOLUME_IN_POD}")])?;
        node.run(&["sh", "-c", "echo 127.0.0.1 localhost >\"$1/etc-hosts\"", "sh", &folder])?;
        let (sandbox, cri) = (node.prepare(&self.workload)?, node.cri()?);
        let mut first: Option<Container> = None;
        for number in 0..self.containers.len() {
            let config = self.container(number, &reference)?;
            match &first {
                None => first = Some(cri.run(sandbox.clone(), config)?),
                Some(first) => {
                    cri.run_in(&first.pod_id, sandbox.clone(), config).inspect_err(|_| {
                        // The first error is the one worth telling.
                        cri.remove_pod(&first.pod_id).ok();
                    })?;
                }
            }
        }
        first.context("a Pod has at least one container")
    }

    /// Starts its first container anew where it was, as a kubelet does when that has ended; anything but a refusal that
    /// says so is an error.
    pub fn is_not_started_again(&self, lab: &Lab, on: NodeName, why: &str) -> Result<()> {
        let node = lab.node(on);
        let cri = node.cri()?;
        let mut pods = cri.pods()?;
        pods.retain(|pod| pod.metadata.as_ref().is_some_and(|data| data.uid == self.workload.uid));
        let sandbox = pods.pop().context("its sandbox is gone")?;
        let mut attempts = cri.containers()?;
        attempts.retain(|container| container.pod_sandbox_id == sandbox.id);
        let mut config = self.container(0, &node.image_of(&self.workload)?)?;
        config.metadata.get_or_insert_default().attempt = attempts.len().try_into()?;
        let refused = cri.run_in(&sandbox.id, self.workload.sandbox(), config);
        let said = refused.as_ref().err().map(ToString::to_string).unwrap_or_default();
        ensure!(said.contains(why), "not refused for {why}: {refused:?}");
        Ok(())
    }

    /// Waits until none of its containers runs on a node, by the word of containerd, which hears of their end a little later.
    pub fn has_ended(&self, lab: &Lab, on: NodeName) -> Result<()> {
        let uid = Some(self.workload.uid.as_str());
        let cri = lab.node(on).cri()?;
        Ok(until(&format!("the end of {} on node {on}", self.workload.name), SOON, || {
            let runs = |one: &transship_proto::cri::Container| {
                let own = one.labels.get("io.kubernetes.pod.uid").map(String::as_str) == uid;
                own && one.state() == ContainerState::ContainerRunning
            };
            Ok((!cri.containers()?.iter().any(runs)).then_some(()))
        })?)
    }

    /// Ends and removes it.
    pub fn remove(&self, lab: &Lab, on: NodeName) -> Result<()> {
        let cri = lab.node(on).cri()?;
        for pod in cri.pods()? {
            if pod.metadata.is_some_and(|data| data.uid == self.workload.uid) {
                cri.remove_pod(&pod.id)?;
            }
        }
        Ok(())
    }

    /// Whether a node has it.
    pub fn is_on(&self, lab: &Lab, node: NodeName) -> Result<bool> {
        let pods = lab.node(node).cri()?.pods()?;
        Ok(pods.into_iter().any(|pod| pod.metadata.is_some_and(|data| data.uid == self.workload.uid)))
    }

    fn container(&self, number: usize, reference: &str) -> Result<ContainerConfig> {
        let (name, arguments) = self.containers.get(number).context("a Pod has at least one container")?;
        let mut config = self.workload.clone().with_arguments(arguments).container(reference);
        config.metadata.get_or_insert_default().name = (*name).to_owned();
        config.log_path = format!("main/{number}.log");
        let folder = format!("{PODS}/{}", self.workload.uid);
        let mount = |from: &str, to: &str| Mount {
            host_path: format!("{folder}/{from}"),
            container_path: to.to_owned(),
            ..Mount::default()
        };
        config.mounts.extend([mount("etc-hosts", "/etc/hosts"), mount(VOLUME_IN_POD, VOLUME)]);
        Ok(config)
    }
}

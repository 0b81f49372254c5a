//! A container as the lab runs it, shaped like one that a kubelet makes.

use std::collections::HashMap;

use transship_proto::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
};

/// What a kubelet hides from every container that isn't privileged.
const MASKED: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A kubelet shares the Pod's network and IPC among its containers, and gives each its own PIDs.
fn namespaces() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }
}

/// A Pod of one container.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The Pod's name, and its host name.
    pub name: String,
    /// The Pod's UID, a fresh one for each value.
    pub uid: String,
    /// One of [`WORKLOADS`](crate::WORKLOADS), or an image that the node has by that name.
    pub image: String,
    /// Arguments; the image's own when empty.
    pub arguments: Vec<String>,
    /// Environment variables beside the image's.
    pub environment: Vec<(String, String)>,
}

impl Workload {
    /// One that runs the image as it is.
    pub fn new(name: &str, image: &str) -> Self {
        Workload {
            name: name.to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
            image: image.to_owned(),
            arguments: vec![],
            environment: vec![],
        }
    }

    /// The same with other arguments.
    pub fn with_arguments<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments = arguments.into_iter().map(Into::into).collect();
        self
    }

    /// Where the node keeps the Pod's logs; the container's is `main/0.log` in it.
    pub fn log_directory(&self) -> String {
        format!("/var/log/pods/default_{}_{}", self.name, self.uid)
    }

    /// The sandbox's configuration, for [`Cri::run`](crate::Cri::run).
    pub fn sandbox(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: self.name.clone(),
            log_directory: self.log_directory(),
            labels: self.labels(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/kubepods/pod{}", self.uid),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The container's configuration. `reference` is the full name of its image.
    pub fn container(&self, reference: &str) -> ContainerConfig {
        let environment = self.environment.iter().cloned();
        let paths = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: reference.to_owned(), ..Default::default() }),
            args: self.arguments.clone(),
            envs: environment.map(|(key, value)| KeyValue { key, value }).collect(),
            labels: self.labels(),
            log_path: "main/0.log".to_owned(),
            linux: Some(LinuxContainerConfig {
                // Of a Pod that asks for nothing.
                resources: Some(LinuxContainerResources {
                    cpu_shares: 2,
                    oom_score_adj: 1000,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    masked_paths: paths(&MASKED),
                    readonly_paths: paths(&READ_ONLY),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    fn labels(&self) -> HashMap<String, String> {
        let labels = [
            ("io.kubernetes.pod.name", self.name.as_str()),
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.pod.uid", self.uid.as_str()),
            ("io.kubernetes.container.name", "main"),
        ];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

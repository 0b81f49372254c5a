//! The parts of a cluster: where each runs, with what, and how one knows that it is up.

use std::fmt;

use serde_json::{Value, json};

use super::{CONFIG, POD_NETWORK, SERVICE_NETWORK};
use crate::NodeName;
use crate::containerd::SOCKET;
use crate::network::CLIENT_ADDRESS;

/// A program of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The database behind the API server, on the client.
    Etcd,
    /// kube-apiserver, on the client.
    ApiServer,
    /// kube-controller-manager, on the client.
    ControllerManager,
    /// kube-scheduler, on the client.
    Scheduler,
    /// The kubelet of a node.
    Kubelet(NodeName),
    /// kube-proxy of a node.
    Proxy(NodeName),
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())?;
        self.node().map_or(Ok(()), |node| write!(f, " of node {node}"))
    }
}

impl Component {
    /// Those of the client, in the order in which they are started.
    pub(super) const CONTROL_PLANE: [Component; 4] =
        [Component::Etcd, Component::ApiServer, Component::ControllerManager, Component::Scheduler];

    /// Those of a node.
    pub(super) fn of_node(node: NodeName) -> [Component; 2] {
        [Component::Kubelet(node), Component::Proxy(node)]
    }

    /// The node that it runs on; `None`: on the client.
    pub fn node(self) -> Option<NodeName> {
        match self {
            Component::Kubelet(node) | Component::Proxy(node) => Some(node),
            _ => None,
        }
    }

    /// Its program's name, which is that of its log in /var/log too.
    pub fn program(self) -> &'static str {
        match self {
            Component::Etcd => "etcd",
            Component::ApiServer => "kube-apiserver",
            Component::ControllerManager => "kube-controller-manager",
            Component::Scheduler => "kube-scheduler",
            Component::Kubelet(_) => "kubelet",
            Component::Proxy(_) => "kube-proxy",
        }
    }

    /// The TCP port of 127.0.0.1 that it listens on once it is up.
    pub(super) fn port(self) -> u16 {
        match self {
            Component::Etcd => 2379,
            Component::ApiServer => 6443,
            Component::ControllerManager => 10257,
            Component::Scheduler => 10259,
            Component::Kubelet(_) => 10248,
            Component::Proxy(_) => 10256,
        }
    }

    /// The files of the cluster's identities that it needs, and their names in [`CONFIG`].
    pub(super) fn identities(self) -> Vec<(String, String)> {
        let program = self.program();
        let same = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), name.to_owned())).collect();
        let kubeconfig = || same(&[&format!("{program}.kubeconfig")]);
        match self {
            Component::Etcd => vec![],
            Component::ApiServer => same(&[
                "ca.crt",
                "kube-apiserver.crt",
                "kube-apiserver.key",
                "kube-apiserver-kubelet-client.crt",
                "kube-apiserver-kubelet-client.key",
                "service-accounts.key",
                "service-accounts.pub",
                "admin.kubeconfig",
            ]),
            Component::ControllerManager | Component::Scheduler | Component::Proxy(_) => kubeconfig(),
            Component::Kubelet(node) => {
                let mut files: Vec<_> = ["crt", "key", "kubeconfig"]
                    .map(|kind| (format!("kubelet-{node}.{kind}"), format!("kubelet.{kind}")))
                    .into();
                files.push(("ca.crt".to_owned(), "ca.crt".to_owned()));
                files
            }
        }
    }

    /// Its configuration file in [`CONFIG`], if it has one.
    pub(super) fn configuration(self) -> Option<(String, Value)> {
        let configuration = match self {
            Component::Kubelet(node) => kubelet(node),
            Component::Proxy(_) => proxy(),
            _ => return None,
        };
        Some((format!("{}.json", self.program()), configuration))
    }

    /// Its command line.
    pub(super) fn call(self) -> Vec<String> {
        let program = self.program();
        let kubeconfig = format!("--kubeconfig={CONFIG}/{program}.kubeconfig");
        let configuration = format!("--config={CONFIG}/{program}.json");
        let mut call = vec![program.to_owned()];
        match self {
            // What a lab forgets in a power cut of this machine, it may forget.
            Component::Etcd => call.extend(
                ["--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn"].map(str::to_owned),
            ),
            Component::ApiServer => call.extend([
                "--etcd-servers=http://127.0.0.1:2379".to_owned(),
                format!("--advertise-address={CLIENT_ADDRESS}"),
                format!("--service-cluster-ip-range={SERVICE_NETWORK}"),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                "--allow-privileged".to_owned(),
                format!("--client-ca-file={CONFIG}/ca.crt"),
                format!("--tls-cert-file={CONFIG}/kube-apiserver.crt"),
                format!("--tls-private-key-file={CONFIG}/kube-apiserver.key"),
                format!("--kubelet-certificate-authority={CONFIG}/ca.crt"),
                format!("--kubelet-client-certificate={CONFIG}/kube-apiserver-kubelet-client.crt"),
                format!("--kubelet-client-key={CONFIG}/kube-apiserver-kubelet-client.key"),
                // No DNS knows the nodes' names.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={CONFIG}/service-accounts.pub"),
                format!("--service-account-signing-key-file={CONFIG}/service-accounts.key"),
            ]),
            Component::ControllerManager => call.extend([
                kubeconfig,
                // As clusters do: admission tells the controllers apart by their accounts.
                "--use-service-account-credentials".to_owned(),
                format!("--service-account-private-key-file={CONFIG}/service-accounts.key"),
                format!("--root-ca-file={CONFIG}/ca.crt"),
                // The only one, and to take over at once when it is started again.
                "--leader-elect=false".to_owned(),
            ]),
            Component::Scheduler => call.extend([kubeconfig, "--leader-elect=false".to_owned()]),
            Component::Kubelet(node) => {
                call.extend([kubeconfig, configuration, format!("--node-ip={}", node.address())]);
            }
            Component::Proxy(_) => call.push(configuration),
        }
        call
    }
}

/// <https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/>
fn kubelet(node: NodeName) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address(),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": format!("{CONFIG}/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": format!("{CONFIG}/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{CONFIG}/kubelet.key"),
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        // The machine's own cgroup is where the kubelet takes the root of the hierarchy to be. The lab's other
        // programs are beside the Pods in it, without limits.
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        // Lowering it takes CAP_SYS_RESOURCE, which a container's or a VM's root may lack.
        "oomScoreAdj": 0,
        // A node's file system is an overlay on the host's, whose fill level isn't the node's affair.
        "localStorageCapacityIsolation": false,
        "evictionHard": { "memory.available": "100Mi" },
        "imageGCHighThresholdPercent": 100,
    })
}

/// <https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/>
fn proxy() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": format!("{CONFIG}/kube-proxy.kubeconfig") },
        "mode": "nftables",
        "clusterCIDR": POD_NETWORK,
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        // Of the host's connection tracking, not of the node's own.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    })
}

//! A node: a machine with containerd on it.

use std::fmt;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::str::FromStr;

use transship_proto::cri::PodSandboxConfig;

use crate::agent::{self, Agents};
use crate::cgroup::Cgroups;
use crate::cri::{Container, Cri};
use crate::daemon::BIN;
use crate::error::{At, LabError, Result};
use crate::image::{self, Image, WORKLOADS};
use crate::lab::{self, Shared};
use crate::machine::Machine;
use crate::workload::Workload;
use crate::{containerd, kubernetes, network};

/// The two nodes of every lab.
pub const NODES: [NodeName; 2] = [NodeName::A, NodeName::B];

const RUNC: &str = "/usr/sbin/runc";
const RUNC_WITHOUT_LIMITS: &str = "/usr/local/sbin/runc-without-limits";

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeName {
    /// Node `a`, 10.77.0.11.
    A,
    /// Node `b`, 10.77.0.12.
    B,
}

impl NodeName {
    /// As it is written, and the node's host name.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeName::A => "a",
            NodeName::B => "b",
        }
    }

    /// The other one.
    pub fn peer(self) -> NodeName {
        match self {
            NodeName::A => NodeName::B,
            NodeName::B => NodeName::A,
        }
    }

    /// Its address on the bridge.
    pub fn address(self) -> &'static str {
        match self {
            NodeName::A => "10.77.0.11",
            NodeName::B => "10.77.0.12",
        }
    }

    pub(crate) fn hardware_address(self) -> &'static str {
        match self {
            NodeName::A => "02:00:00:00:00:0a",
            NodeName::B => "02:00:00:00:00:0b",
        }
    }

    /// The network of its Pods, routed from everywhere in the lab.
    pub fn pod_network(self) -> &'static str {
        match self {
            NodeName::A => "10.244.1.0/24",
            NodeName::B => "10.244.2.0/24",
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NodeName {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        let found = NODES.into_iter().find(|node| node.as_str() == text);
        found.ok_or_else(|| LabError::Usage(format!("there is no node `{text}`, only a and b")))
    }
}

/// A node of a lab. Everything of [`Machine`] can be asked of it too.
#[derive(Clone, Debug)]
pub struct Node {
    name: NodeName,
    machine: Machine,
    client: Machine,
    lab: Shared,
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Node {
    pub(crate) fn new(name: NodeName, machine: Machine, client: Machine, lab: Shared) -> Self {
        Node { name, machine, client, lab }
    }

    /// Which one it is.
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// Ends everything on it at once, as a power cut does: what was on its tmpfs file systems is gone, its disk stays
    /// (also what was not yet synced, which a real one might lose).
    pub fn power_cut(&self) -> Result<()> {
        self.machine.stop()
    }

    /// Starts it, for the first time or after a power cut: machine, link, containerd, and the kubelet of a cluster's
    /// node. Does nothing if it is up.
    pub fn boot(&self) -> Result<()> {
        if self.machine.is_ready()? {
            return Ok(());
        }
        self.boot_alone()?;
        if self.lab.settings.kubernetes.is_some() { self.join_cluster() } else { Ok(()) }
    }

    /// Starts it but for what needs a cluster.
    pub(crate) fn boot_alone(&self) -> Result<()> {
        self.machine.stop()?;
        self.machine.start(&self.lab.settings, Some(&self.client))?;
        network::connect_node(&self.client, &self.machine, self.name, self.lab.settings.mtu)?;
        network::shape(&self.machine, self.lab.settings.link)?;
        self.install_programs()?;
        let pause = self.builtin("pause")?;
        containerd::configure(self, &pause.reference, &self.install_runtime()?, self.lab.settings.mtu)?;
        containerd::start(self)?;
        containerd::ensure_image(self, &pause)?;
        if self.lab.settings.kubernetes.is_some() {
            kubernetes::import_images(self)?;
        }
        if self.lab.settings.agents == Agents::Running && self.path(BIN)?.join("transship").exists() {
            self.start_agent(&[])?;
        }
        self.machine.mark_ready()
    }

    /// Sees that its kubelet and kube-proxy run.
    pub(crate) fn join_cluster(&self) -> Result<()> {
        kubernetes::join(self, &self.lab.folder)
    }

    /// Installs what runs its containers and returns what containerd has to call: transship's wrapper where it is
    /// among the node's programs, else what that would stand in front of.
    fn install_runtime(&self) -> Result<String> {
        let limited = Cgroups::of_host()?.have_controllers(self.lab.settings.cgroups)?;
        let runtime = if limited { RUNC } else { RUNC_WITHOUT_LIMITS };
        if !limited {
            let path = self.path(runtime)?;
            fs::write(&path, include_str!("runc-without-limits.sh")).at("write", &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("open", &path)?;
        }
        let wrapper = format!("{BIN}/transship-runtime");
        if !self.path(&wrapper)?.exists() {
            return Ok(runtime.to_owned());
        }
        let config = self.path(&wrapper)?.with_extension("json");
        fs::write(&config, serde_json::json!({ "runtime": runtime }).to_string()).at("write", config)?;
        Ok(wrapper)
    }

    /// Copies transship's programs and the node's identity to where they belong.
    pub(crate) fn install_programs(&self) -> Result<()> {
        let programs = agent::PROGRAMS.map(|name| self.lab.settings.programs.join(name));
        let there: Vec<_> = programs.into_iter().filter(|program| program.exists()).collect();
        self.install(&there)?;
        let identities = lab::identities(&self.lab.folder);
        if identities.exists() { self.install_identity(&identities) } else { Ok(()) }
    }

    /// Loads an image, in place of what the node has under its name.
    pub fn import_image(&self, image: &Image) -> Result<()> {
        containerd::import(self, image)
    }

    /// Connects to its containerd as a kubelet would.
    pub fn cri(&self) -> Result<Cri> {
        Cri::connect(self)
    }

    /// Starts a workload, making its image first if it is one of the lab's own. The other node need not have the image;
    /// see [`Lab::start`](crate::Lab::start).
    pub fn start(&self, workload: &Workload) -> Result<Container> {
        let reference = self.image_of(workload)?;
        self.cri()?.run(self.prepare(workload)?, workload.container(&reference))
    }

    /// Sees that a workload's image is on the node and returns the image's full name.
    pub fn image_of(&self, workload: &Workload) -> Result<String> {
        if !WORKLOADS.contains(&workload.image.as_str()) {
            return image::user_reference(&workload.image);
        }
        let image = self.builtin(&workload.image)?;
        containerd::ensure_image(self, &image)?;
        Ok(image.reference)
    }

    /// Makes what a kubelet makes before a Pod starts, and returns the sandbox's configuration.
    pub fn prepare(&self, workload: &Workload) -> Result<PodSandboxConfig> {
        let logs = self.path(workload.log_directory())?.join("main");
        fs::create_dir_all(&logs).at("make", logs)?;
        Ok(workload.sandbox())
    }

    pub(crate) fn builtin(&self, name: &str) -> Result<Image> {
        Image::builtin(name, &self.lab.dirs, &self.lab.root, &self.lab.settings.programs)
    }
}

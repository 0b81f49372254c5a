//! A node: a machine with containerd on it.

use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{At, LabError, Result};
use crate::lab::Settings;
use crate::machine::Machine;
use crate::root::Root;
use crate::{containerd, network};

/// The two nodes of every lab.
pub const NODES: [NodeName; 2] = [NodeName::A, NodeName::B];

/// Where the product's programs are on a node.
const PROGRAMS: &str = "/usr/local/bin";

/// Starts a program that outlives its starter, with its output in /var/log and its PID in /run.
const DAEMON: &str = r#"name=$1; shift
setsid "$@" </dev/null >>"/var/log/$name.log" 2>&1 &
echo $! >"/run/$name.pid""#;

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
    root: Root,
    settings: Settings,
}

impl Deref for Node {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Node {
    pub(crate) fn new(
        name: NodeName,
        machine: Machine,
        client: Machine,
        root: Root,
        settings: Settings,
    ) -> Self {
        Node { name, machine, client, root, settings }
    }

    /// Which one it is.
    pub fn name(&self) -> NodeName {
        self.name
    }

    /// Ends everything on it at once, as a power cut does: what was on its tmpfs file systems is gone, its disk stays.
    pub fn power_cut(&self) -> Result<()> {
        self.machine.stop()
    }

    /// Starts it, for the first time or after a power cut: machine, link, containerd. Does nothing if it is up.
    pub fn boot(&self) -> Result<()> {
        if self.machine.is_ready()? {
            return Ok(());
        }
        self.machine.stop()?;
        self.machine.start(&self.root, self.settings.cgroups, Some(&self.client))?;
        network::connect_node(&self.client, &self.machine, self.name, self.settings.mtu)?;
        network::shape(&self.machine, self.settings.link)?;
        self.install(&self.settings.programs)?;
        containerd::configure(self, &self.runtime()?, self.settings.mtu)?;
        containerd::start(self)?;
        self.machine.mark_ready()
    }

    /// The OCI runtime: transship's wrapper where it is installed, else what it stands in front of.
    fn runtime(&self) -> Result<String> {
        let wrapper = format!("{PROGRAMS}/transship-runtime");
        let installed = self.path(&wrapper)?.exists();
        Ok(if installed { wrapper } else { "/usr/sbin/runc".to_owned() })
    }

    /// Copies programs of the host into the node's /usr/local/bin. A running one is replaced, not changed.
    pub fn install(&self, programs: &[PathBuf]) -> Result<()> {
        for program in programs {
            let name = program.file_name().unwrap_or_default();
            let target = self.path(PROGRAMS)?.join(name);
            let fresh = target.with_extension("fresh");
            fs::copy(program, &fresh).at("copy", program)?;
            fs::rename(&fresh, &target).at("replace", &target)?;
        }
        Ok(())
    }

    /// Starts a program that goes on when this process ends. Its output is appended to /var/log/NAME.log.
    pub fn start_daemon(&self, name: &str, call: &[&str]) -> Result<()> {
        let start = ["sh", "-c", DAEMON, "daemon", name];
        self.run(&[&start, call].concat()).map(drop)
    }

    /// Sends SIGKILL to a program that [`start_daemon`](Self::start_daemon) started, not to what it has started.
    pub fn kill_daemon(&self, name: &str) -> Result<()> {
        let path = self.path(format!("/run/{name}.pid"))?;
        let pid = fs::read_to_string(&path).at("read", &path)?;
        self.run(&["kill", "-KILL", pid.trim()]).map(drop)
    }

    /// What a daemon has said so far.
    pub fn log(&self, name: &str) -> Result<String> {
        let path = self.path(format!("/var/log/{name}.log"))?;
        fs::read_to_string(&path).at("read", path)
    }

    /// The last lines of a daemon's log added to an error that it may explain.
    pub(crate) fn with_log(&self, error: LabError, name: &str) -> LabError {
        let log = self.log(name).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        LabError::Broken(format!("{error}\nlast lines of {name}'s log on node {}:\n{tail}", self.name))
    }

    /// Loads an image archive (OCI or docker) that lies on the host.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        containerd::import(self, archive)
    }
}

//! A Kubernetes cluster in a lab: etcd, an API server, its controllers and the scheduler on the client, a real kubelet
//! and kube-proxy on each node, in front of the node's own containerd.
//!
//! All of them are one program ([`Kubernetes::program`]), built once from the module in `lab/kubernetes` and cached.

mod component;
mod coordinator;
mod pki;
mod program;

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::error::{At, LabError, Result};
use crate::image::Image;
use crate::lab::Lab;
use crate::machine::Machine;
use crate::node::Node;
use crate::{command, containerd, wait};

pub use component::Component;
pub(crate) use program::ensure as ensure_program;

/// Where the API server is, for all machines of the lab.
pub const API_SERVER: &str = "https://10.77.0.1:6443";
/// The kubeconfig of the administrator, on the client.
pub const ADMIN_CONFIG: &str = "/etc/kubernetes/admin.kubeconfig";
/// The lab's own images that Pods can use, as `localhost/NAME:lab` with `imagePullPolicy: Never`.
pub const POD_IMAGES: [&str; 6] = ["counter", "witness", "dirty", "processes", "pair", "shell"];

/// Where the parts' configuration is, on each machine.
const CONFIG: &str = "/etc/kubernetes";
/// Of both nodes' Pods.
const POD_NETWORK: &str = "10.244.0.0/16";
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// Of the API server, as Pods see it.
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// What a kubelet sets in the kernel when it isn't so already: `setupKernelTunables` in its container manager.
const TUNABLES: [&str; 6] = [
    "vm/overcommit_memory=1",
    "vm/panic_on_oom=0",
    "kernel/panic=10",
    "kernel/panic_on_oops=1",
    "kernel/keys/root_maxkeys=1000000",
    "kernel/keys/root_maxbytes=25000000",
];

/// How long a part may take until it answers, with both processors busy.
const ANSWERS: Duration = Duration::from_secs(60);

/// Whether the nodes are a cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// Each is a single host.
    None,
    /// They are nodes of Kubernetes. Its program is built the first time, which takes 5 to 15 minutes.
    Kubernetes,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cluster::None => "none",
            Cluster::Kubernetes => "Kubernetes",
        })
    }
}

/// The cluster of a lab that is up: [`Lab::kubernetes`].
///
/// ```no_run
/// use transship_lab::{Cluster, Component, LabGuard, LabOptions};
///
/// # fn main() -> Result<(), transship_lab::LabError> {
/// let options = LabOptions { cluster: Cluster::Kubernetes, ..LabOptions::from_env("example")? };
/// let lab = LabGuard::up(&options)?;
/// let cluster = lab.kubernetes()?;
/// cluster.kubectl(&["run", "web", "--image=localhost/counter:lab", "--image-pull-policy=Never"])?;
/// cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web"])?;
/// cluster.stop(Component::ApiServer)?;
/// cluster.start(Component::ApiServer)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kubernetes<'a> {
    lab: &'a Lab,
    program: &'a Path,
}

impl<'a> Kubernetes<'a> {
    pub(crate) fn of(lab: &'a Lab, program: &'a Path) -> Self {
        Kubernetes { lab, program }
    }

    /// The program that is all of Kubernetes, on the host. Static; its name decides what it is, `kubectl` for example.
    pub fn program(&self) -> &Path {
        self.program
    }

    /// The administrator's kubeconfig on the host. Its server is reached from the lab's network only:
    /// [`Machine::in_network`] of the client.
    pub fn kubeconfig(&self) -> PathBuf {
        identities(self.lab.folder()).join("admin.kubeconfig")
    }

    /// A program on the client, with the administrator's kubeconfig in its environment.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.lab.client().command(program)?;
        command.env("KUBECONFIG", ADMIN_CONFIG);
        Ok(command)
    }

    /// Runs kubectl to its end and returns its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.command("kubectl")?.args(arguments))
    }

    /// Applies manifests, YAML or JSON.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        command::output_with_input(self.command("kubectl")?.args(["apply", "-f", "-"]), manifests).map(drop)
    }

    /// Runs kubectl with this process's standard streams, folder and files, but in the lab's network.
    pub fn kubectl_here(&self, arguments: &[String]) -> Result<ExitStatus> {
        let mut kubectl = Command::new(self.program);
        // What it remembers of the API is of this lab's server; all labs' servers have one address.
        let cache = identities(self.lab.folder()).with_extension("cache");
        kubectl.arg0("kubectl").args(arguments);
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", cache);
        let ended = self.lab.client().in_network(|| kubectl.status())?;
        ended.map_err(|source| LabError::Spawn { command: command::describe(&kubectl), source })
    }

    /// Starts a part unless it runs, and returns when it answers.
    pub fn start(&self, component: Component) -> Result<()> {
        start(self.machine(component), component)?;
        if component != Component::ApiServer {
            return Ok(());
        }
        // It listens before it can do its work.
        await_answer(self.lab.client(), component, || self.kubectl(&["get", "--raw", "/readyz"]).is_ok())
    }

    /// Sends a part SIGKILL and returns when it is gone. Pods run on without their kubelet.
    pub fn stop(&self, component: Component) -> Result<()> {
        self.machine(component).kill_daemon(component.program())
    }

    /// Lets a part stand still, with all connections to it open: SIGSTOP.
    pub fn pause(&self, component: Component) -> Result<()> {
        self.machine(component).signal_daemon(component.program(), "STOP")
    }

    /// Lets a part go on: SIGCONT.
    pub fn resume(&self, component: Component) -> Result<()> {
        self.machine(component).signal_daemon(component.program(), "CONT")
    }

    /// What a part has said so far.
    pub fn log(&self, component: Component) -> Result<String> {
        self.machine(component).log(component.program())
    }

    /// Waits until both nodes are ready for Pods.
    pub fn await_ready(&self) -> Result<()> {
        let nodes = ["node/a", "node/b"];
        // Without it no Pod is admitted.
        self.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
        for condition in ["create", "condition=Ready"] {
            let wait = ["wait", &format!("--for={condition}"), "--timeout=60s"];
            self.kubectl(&[&wait, nodes.as_slice()].concat())?;
        }
        Ok(())
    }

    pub(crate) fn start_control_plane(&self) -> Result<()> {
        pki::ensure(&identities(self.lab.folder()))?;
        install(self.lab.client(), self.lab.folder(), &Component::CONTROL_PLANE)?;
        Component::CONTROL_PLANE.into_iter().try_for_each(|component| self.start(component))
    }

    fn machine(&self, component: Component) -> &'a Machine {
        component.node().map_or(self.lab.client(), |node| self.lab.node(node))
    }
}

/// Makes a running node one of the cluster, or sees that it is.
pub(crate) fn join(node: &Node, lab: &Path) -> Result<()> {
    let components = Component::of_node(node.name());
    install(node, lab, &components)?;
    let tunables = include_str!("tunables.sh");
    node.run(&[&["sh", "-c", tunables, "tunables"], TUNABLES.as_slice()].concat())?;
    components.into_iter().try_for_each(|component| start(node, component))
}

/// Puts the lab's images on a node under the names by which Pods know them.
pub(crate) fn import_images(node: &Node) -> Result<()> {
    POD_IMAGES.into_iter().try_for_each(|name| {
        let image = Image { reference: format!("localhost/{name}:lab"), ..node.builtin(name)? };
        containerd::import(node, &image)
    })
}

/// Gives a machine what the parts that run on it are configured by.
fn install(machine: &Machine, lab: &Path, components: &[Component]) -> Result<()> {
    for component in components {
        for (from, to) in component.identities() {
            let from = identities(lab).join(from);
            machine.write(&format!("{CONFIG}/{to}"), fs::read(&from).at("read", from)?)?;
        }
        if let Some((file, configuration)) = component.configuration() {
            machine.write(&format!("{CONFIG}/{file}"), configuration.to_string())?;
        }
    }
    Ok(())
}

fn start(machine: &Machine, component: Component) -> Result<()> {
    let program = component.program();
    if !machine.daemon_runs(program)? {
        machine.start_daemon(program, &component.call())?;
    }
    await_answer(machine, component, || {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, component.port())).is_ok();
        machine.in_network(connect).unwrap_or(false)
    })
}

/// Waits until a part that was started answers, or has ended instead.
fn await_answer(machine: &Machine, component: Component, mut answers: impl FnMut() -> bool) -> Result<()> {
    let answer = wait::until(&format!("an answer of {component}"), ANSWERS, || {
        if answers() {
            Ok(Some(()))
        } else if machine.daemon_runs(component.program())? {
            Ok(None)
        } else {
            Err(LabError::Broken(format!("{component} has ended")))
        }
    });
    answer.map_err(|error| machine.with_log(error, component.program()))
}

fn identities(lab: &Path) -> PathBuf {
    lab.join("kubernetes")
}

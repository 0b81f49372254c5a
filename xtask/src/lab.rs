//! `cargo xtask lab`: a lab by hand.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use transship_lab::{API_SERVER, CgroupVersion, Cluster, Lab, LabOptions, Link, NodeName, Rate, Workload};

use crate::build;

#[derive(Args)]
pub struct Name {
    /// Which lab; labs of different names run beside each other.
    #[arg(long = "name", value_name = "LAB", default_value = "main")]
    lab: String,
}

#[derive(Subcommand)]
pub enum Task {
    /// Bring a lab up, or see that it is up.
    Up(Up),
    /// Put an image of your own on both nodes.
    Image {
        /// A folder that holds a root file system, or an OCI or docker archive.
        source: PathBuf,
        /// Its name, for `lab run --image`.
        name: String,
        #[command(flatten)]
        lab: Name,
    },
    /// Start a container on a node; prints its ID and its IP address.
    Run {
        /// Node a or b.
        node: NodeName,
        /// The name of its Pod.
        name: String,
        /// One of counter, witness, dirty, processes, shell, redis, postgresql, or an image of your own.
        #[arg(long, default_value = "counter")]
        image: String,
        #[command(flatten)]
        lab: Name,
        /// Arguments; the image's own when there are none.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run a command on a node, for example `lab shell a -- ctr -n k8s.io containers list`.
    Shell {
        /// Node a or b, or `client`.
        machine: String,
        #[command(flatten)]
        lab: Name,
        /// The command; a shell when there is none.
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Run kubectl on the cluster of a lab, for example `lab kubectl -- get pods -o wide`.
    Kubectl {
        #[command(flatten)]
        lab: Name,
        /// kubectl's arguments; files are this machine's.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// What is up.
    Status,
    /// Take a lab down and remove all it has left, also what a crash has left of it.
    Down(Name),
}

#[derive(Args)]
pub struct Up {
    #[command(flatten)]
    lab: Name,
    /// What each node may send, for example 1gbit.
    #[arg(long)]
    link: Option<Rate>,
    /// MTU of every interface.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Round-trip time between the nodes in milliseconds, for example 20ms.
    #[arg(long, value_parser = milliseconds)]
    latency: Option<Duration>,
    /// Which cgroup version the nodes see, v1 or v2; this machine's own when not given.
    #[arg(long)]
    cgroup: Option<CgroupVersion>,
    /// Make the nodes those of a Kubernetes cluster, which is built the first time. `lab kubectl` speaks to it.
    #[arg(long)]
    kubernetes: bool,
    /// Take the static programs from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

pub fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Up(up) => bring_up(up)?,
        Task::Image { source, name, lab } => {
            println!("{}", Lab::open(&lab.lab)?.import_image(&source, &name)?);
        }
        Task::Run { node, name, image, lab, arguments } => {
            let workload = Workload::new(&name, &image).with_arguments(arguments);
            let container = Lab::open(&lab.lab)?.start(node, &workload)?;
            println!("{} {}", container.id, container.address);
        }
        Task::Shell { machine, lab, command } => return shell(&Lab::open(&lab.lab)?, &machine, command),
        Task::Kubectl { lab, arguments } => {
            let ended = Lab::open(&lab.lab)?.kubernetes()?.kubectl_here(&arguments)?;
            return Ok(exit_code(ended));
        }
        Task::Status => status()?,
        Task::Down(lab) => Lab::take_down(&lab.lab)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn bring_up(up: Up) -> Result<()> {
    let programs = up.programs.map_or_else(build::programs, Ok)?;
    let options = LabOptions {
        link: Link { rate: up.link, latency: up.latency },
        mtu: up.mtu,
        cgroups: up.cgroup,
        cluster: if up.kubernetes { Cluster::Kubernetes } else { Cluster::None },
        ..LabOptions::new(&up.lab.lab, programs)
    };
    describe(&Lab::up(&options)?)
}

fn describe(lab: &Lab) -> Result<()> {
    let mut text = format!("lab {}, cgroup {}\n", lab.name(), lab.cgroups());
    for node in lab.nodes() {
        let state =
            if node.is_running()? { format!("up, init is {}", node.pid()?) } else { "down".to_owned() };
        let name = node.name();
        text += &format!("  node {name}  {}  Pods {}  {state}\n", name.address(), name.pod_network());
    }
    if lab.kubernetes().is_ok() {
        text += &format!("  Kubernetes  {API_SERVER}  `cargo xtask lab kubectl` reaches it\n");
    }
    let versions = lab.root().versions()?;
    text += &format!("  {}\n", versions.lines().collect::<Vec<_>>().join(", "));
    std::io::stdout().write_all(text.as_bytes()).context("tell what is up")
}

fn shell(lab: &Lab, machine: &str, mut call: Vec<String>) -> Result<ExitCode> {
    let machine = match machine {
        "client" => lab.client(),
        node => lab.node(node.parse::<NodeName>()?),
    };
    if call.is_empty() {
        call.push("bash".to_owned());
    }
    let mut command = machine.command(&call[0])?;
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    let status = command.args(&call[1..]).stdin(Stdio::inherit()).status().context("start the command")?;
    Ok(exit_code(status))
}

/// A program that a signal ended has no code; a shell would say 128 + the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn status() -> Result<()> {
    for name in Lab::names()? {
        match Lab::open(&name) {
            Ok(lab) => describe(&lab)?,
            Err(error) => println!("lab {name}: {error}"),
        }
    }
    Ok(())
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("ms").unwrap_or(text);
    number.parse().map(Duration::from_millis).map_err(|_| format!("`{text}` is no time: write 20ms"))
}

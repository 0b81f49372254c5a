//! Two real nodes on one machine: each its own containerd, runc, process tree, network and disk.
//!
//! ```no_run
//! use transship_lab::{Lab, LabOptions, NodeName};
//!
//! # fn main() -> Result<(), transship_lab::LabError> {
//! let lab = Lab::up(&LabOptions::new("example", "target/lab"))?;
//! println!("{}", lab.node(NodeName::A).run(&["criu", "--version"])?);
//! lab.down()?;
//! # Ok(())
//! # }
//! ```
//!
//! A lab is three machines: the *client*, which holds the bridge and stands for the world outside, and the nodes
//! `a` and `b`. Each is a process tree in namespaces of its own; the nodes live in the client's PID namespace and
//! end with it. All labs share one Debian, made once ([`Root`]). Nothing of a lab is seen or reached from the host's
//! network, mounts or cgroup folders but its own, so labs run beside each other and beside other work.

mod agent;
mod cgroup;
mod command;
mod containerd;
mod cri;
mod daemon;
mod dirs;
mod error;
mod hash;
pub mod host;
mod image;
mod kubernetes;
mod lab;
mod load;
mod machine;
mod network;
mod node;
mod orphans;
mod process;
mod root;
mod settings;
mod wait;
mod workload;

pub use agent::{AGENT_PORT, Agents};
pub use cgroup::CgroupVersion;
pub use command::{output, output_with_input};
pub use containerd::SOCKET;
pub use cri::{Container, Cri};
pub use dirs::Dirs;
pub use error::{LabError, Result};
pub use image::{Image, ImageConfig, WORKLOADS, write_archive};
pub use kubernetes::{ADMIN_CONFIG, API_SERVER, Cluster, Component, Kubernetes, POD_IMAGES};
pub use lab::{Lab, LabGuard};
pub use load::{Load, Requests};
pub use machine::Machine;
pub use network::{CLIENT_ADDRESS, Link, Rate};
pub use node::{NODES, Node, NodeName};
pub use process::Process;
pub use root::Root;
pub use settings::{LabOptions, PROGRAMS_VARIABLE};
pub use wait::until;
pub use workload::Workload;

/// Where programs are, on the host and in the lab.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

//! transship's agent: both ends of a migration on one node.
//!
//! `source` is the end that a workload leaves, `target` the one that it comes to; their files mirror each other.
//! What decides is in `transship-decision`, what moves bytes in `transship-transfer`, what judges images in
//! `transship-checkpoint`; here these are tied to a node: its container runtime, its cgroups, its disk.

pub mod config;
pub mod doctor;
mod facts;
mod faults;
mod grants;
mod host;
mod node;
mod plan;
mod pods;
mod rpc;
mod runtime;
mod serve;
mod sign;
mod source;
mod steps;
mod target;
mod watchdog;

pub use config::Config;
pub use serve::{recover, run};

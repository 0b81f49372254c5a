//! Real migrations between two real nodes.
//!
//! `cargo xtask test --suite lab [FILTER]` builds everything and runs this. Every scenario of [`suite`] is run once for
//! each cgroup version, one after the other, in a lab that it shares with the others of its version; a scenario that
//! fails leaves it to nobody. What a scenario asserts rests on [`evidence`], the workload's own, and after each one
//! the nodes must bear the same [`footprint`] as before the first.

mod coordinator;
mod evidence;
mod footprint;
mod kubelet;
mod kubernetes;
mod node;
mod scenario;
mod stage;
mod suite;
mod transship;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use transship_lab::CgroupVersion;

use stage::Stage;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share a lab, and would take the processor from each other while something stands still.
    arguments.test_threads = Some(1);
    let stages = [CgroupVersion::V1, CgroupVersion::V2].map(|version| Arc::new(Stage::new(version)));
    let trials = stages.iter().flat_map(|stage| suite::all().into_iter().map(|one| stage.trial(one)));
    let trials: Vec<Trial> = trials.chain(kubernetes::trials()).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

//! Pods of a real cluster: kubelets, API server, scheduler and controllers, transship's coordinator and agents.

mod cluster;
mod faults;
mod moves;
mod refusals;
mod stage;

pub use stage::Stage;

use libtest_mimic::Trial;
use std::sync::Arc;

/// Every scenario, all in one cluster.
pub fn trials() -> Vec<Trial> {
    let stage = Arc::new(Stage::default());
    let all = [refusals::all(), moves::all(), faults::all()];
    all.into_iter().flatten().map(|scenario| stage.trial(scenario)).collect()
}

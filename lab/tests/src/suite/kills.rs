//! CRIU, the OCI runtime and the wrapper are killed at any moment: the container runs on, here or there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use transship_lab::{Lab, NodeName};

use crate::evidence::{Collector, Counter};
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{Underway, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("kills":
        criu_at_any_moment_of_a_dump,
        the_runtime_at_any_moment_of_a_dump,
        criu_at_any_moment_of_a_restore,
        the_runtime_at_any_moment_of_a_restore,
        the_wrapper_that_waits,
    )
}

/// How often each of them is killed.
const ROUNDS: usize = 8;
/// How long the workload may stand still.
const BUDGET: &str = "4s";
/// The budget, and what a busy machine adds until an expired one has been acted on.
const LONGEST: Duration = Duration::from_millis(5000);

/// A program by the name that the kernel has of it, and a word of its command.
type Prey = (&'static str, &'static str);

/// What works on images for runc.
const CRIU: Prey = ("criu", "swrk");

/// Waits for a program of the migration to begin on that node, kills it, or the next of its kind, some moment within
/// `window` after that, and waits for the migration's end. Tells whether one was hit.
fn hit(lab: &Lab, whose: NodeName, prey: Prey, window: Duration, mut underway: Underway) -> Result<bool> {
    let mut moment = None;
    let victim = loop {
        if let Some(found) = node::hunt(lab.node(whose), prey)? {
            let now = Instant::now();
            if now >= *moment.get_or_insert_with(|| now + window.mul_f64(fastrand::f64())) {
                break Some(found);
            }
        } else if underway.is_over()? {
            break None;
        }
    };
    if let Some(victim) = &victim {
        victim.kill();
    }
    underway.finish()?;
    node::await_the_end_of_all_migrations(lab)?;
    Ok(victim.is_some())
}

/// A dump that is killed leaves the counter where it was, whole and to be reached.
fn in_dumps(lab: &Lab, prey: Prey) -> Result<()> {
    let mut here = NodeName::A;
    let mut counter = Counter::start_with(lab, here, &Counter::workload("counter", 64))?;
    let mut hits = 0;
    for round in 0..ROUNDS {
        let count = counter.count()?;
        let underway = migration("counter", here).budget(BUDGET).start(lab)?;
        hits += usize::from(hit(lab, here, prey, Duration::from_millis(60), underway)?);
        if node::running(lab, here, "counter")?.is_none() {
            // It was too late to stop the move.
            here = here.peer();
        }
        counter.runs_on_at(here, count).map_err(|error| error.context(format!("in round {round}")))?;
    }
    ensure!(hits >= ROUNDS / 2, "of {ROUNDS} only {hits} were hit");
    counter.has_written_each_number_once()
}

fn criu_at_any_moment_of_a_dump(lab: &Lab) -> Result<()> {
    in_dumps(lab, CRIU)
}

fn the_runtime_at_any_moment_of_a_dump(lab: &Lab) -> Result<()> {
    in_dumps(lab, ("runc", "checkpoint"))
}

fn in_restores(lab: &Lab, prey: Prey) -> Result<()> {
    let mut here = NodeName::A;
    let collector = Collector::start(lab, here, "witness")?;
    let mut hits = 0;
    for round in 0..ROUNDS {
        let underway = migration("witness", here).budget(BUDGET).start(lab)?;
        hits += usize::from(hit(lab, here.peer(), prey, Duration::from_millis(40), underway)?);
        let heard = collector.has_heard_one_whole_process(LONGEST);
        here = heard.map_err(|error| error.context(format!("in round {round}")))?;
    }
    ensure!(hits >= ROUNDS / 2, "of {ROUNDS} only {hits} were hit");
    Ok(())
}

fn criu_at_any_moment_of_a_restore(lab: &Lab) -> Result<()> {
    in_restores(lab, CRIU)
}

fn the_runtime_at_any_moment_of_a_restore(lab: &Lab) -> Result<()> {
    in_restores(lab, ("runc", "restore"))
}

fn the_wrapper_that_waits(lab: &Lab) -> Result<()> {
    let collector = Collector::start(lab, NodeName::A, "witness")?;
    let (source, target) = (lab.node(NodeName::A), lab.node(NodeName::B));
    node::agent_with(source, "hold@source:freeze")?;
    let underway = migration("witness", NodeName::A).budget(BUDGET).start(lab)?;
    node::await_hold(source)?;
    let waiting = node::hunt(target, ("transship-runti", "create"))?;
    ensure!(waiting.is_some(), "no wrapper waits on the target");
    if let Some(wrapper) = waiting {
        wrapper.kill();
    }
    node::release(source)?;
    underway.finish()?;
    node::await_the_end_of_all_migrations(lab)?;
    collector.has_heard_one_whole_process(LONGEST).map(drop)
}

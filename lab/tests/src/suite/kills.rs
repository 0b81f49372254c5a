//! CRIU, the OCI runtime and the wrapper are killed at any moment: the container runs on, here or there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use transship_lab::{Lab, NodeName};

use crate::evidence::{Collector, Counter};
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{Report, Underway, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("kills":
        criu_at_any_moment_of_a_dump,
        the_runtime_at_any_moment_of_a_dump,
        criu_at_any_moment_of_a_restore,
        the_runtime_at_any_moment_of_a_restore,
        the_wrapper_that_waits,
    )
}

/// How many rounds there are for each of them,
const ROUNDS: usize = 8;
/// how many of them must have come in time, for which there are more rounds if need be,
const LEAST_HITS: usize = 4;
/// but not for ever.
const MOST_ROUNDS: usize = 24;
/// How long the workload may stand still.
const BUDGET: &str = "4s";
/// The budget, and what a busy machine adds until an expired one has been acted on.
const LONGEST: Duration = Duration::from_millis(5000);

/// A program by the name that the kernel has of it, and a word of its command.
type Prey = (&'static str, &'static str);

/// Kills one of its kind in each round, some moment after it has begun.
struct Hunt {
    prey: Prey,
    /// How late that moment may be: shorter after each prey that had done its work before.
    window: Duration,
    hits: usize,
}

impl Hunt {
    fn new(prey: Prey) -> Self {
        Hunt { prey, window: Duration::from_millis(40), hits: 0 }
    }

    /// Waits for the prey of this migration to begin on that node, kills it, or the next of its kind, at its moment, and
    /// waits for the migration's end and what is told of it.
    fn round(&mut self, lab: &Lab, whose: NodeName, mut underway: Underway) -> Result<Report> {
        let mut moment = None;
        let victim = loop {
            if let Some(found) = node::hunt(lab.node(whose), self.prey)? {
                let now = Instant::now();
                if now >= *moment.get_or_insert_with(|| now + self.window.mul_f64(fastrand::f64())) {
                    break Some(found);
                }
            } else if underway.is_over()? {
                break None;
            }
        };
        match victim {
            Some(victim) => {
                victim.kill();
                self.hits += 1;
            }
            None => self.window = self.window.mul_f64(0.7),
        }
        let told = underway.finish()?;
        node::await_the_end_of_all_migrations(lab)?;
        Ok(told)
    }

    /// Whether another round is due after so many. Fails if so many were in vain.
    fn goes_on(&self, rounds: usize) -> Result<bool> {
        ensure!(rounds < MOST_ROUNDS || self.hits >= LEAST_HITS, "of {rounds} only {} were hit", self.hits);
        Ok(rounds < ROUNDS || self.hits < LEAST_HITS)
    }
}

/// A dump that is killed leaves the counter where it was, whole and to be reached. The next one succeeds, or isn't begun
/// because CRIU has left something in the counter.
///
/// CRIU may take its container along when it is killed in the middle of a call that it has the container make. So many
/// counters as `most_taken_along` may end like that; another one takes the place of each.
fn in_dumps(lab: &Lab, prey: Prey, most_taken_along: usize) -> Result<()> {
    let mut hunt = Hunt::new(prey);
    let (mut rounds, mut taken_along) = (0, 0);
    while hunt.goes_on(rounds)? {
        let (name, here) = (
            format!("counter-{}", rounds + taken_along),
            if rounds % 2 == 0 { NodeName::A } else { NodeName::B },
        );
        let in_round = |error: anyhow::Error| error.context(format!("in round {rounds}, with {name}"));
        let mut counter = Counter::start_with(lab, here, &Counter::workload(&name, 64))?;
        let count = counter.count()?;
        let underway = migration(&name, here).budget(BUDGET).start(lab)?;
        let told = hunt.round(lab, here, underway)?;
        // It may have been too late to stop the move.
        let stayed = node::running(lab, here, &name)?.is_some();
        let moved = node::running(lab, here.peer(), &name)?.is_some();
        if !stayed && !moved && node::has_crashed(lab, here, &name)? {
            told.failed_with(&["WorkloadEnded"]).map_err(in_round)?;
            taken_along += 1;
            ensure!(
                taken_along <= most_taken_along,
                "{taken_along} counters ended with a {prey:?} that was killed"
            );
            continue;
        }
        counter.runs_on_at(if stayed { here } else { here.peer() }, count).map_err(in_round)?;
        if stayed {
            let again = migration(&name, here).run(lab)?;
            again.succeeded().or_else(|_| again.refused_with("LeftoverOf")).map_err(in_round)?;
            counter.runs_on_at(if again.ok { here.peer() } else { here }, count).map_err(in_round)?;
        }
        counter.has_written_each_number_once().map_err(in_round)?;
        rounds += 1;
    }
    Ok(())
}

fn criu_at_any_moment_of_a_dump(lab: &Lab) -> Result<()> {
    in_dumps(lab, ("criu", "dump"), 2)
}

fn the_runtime_at_any_moment_of_a_dump(lab: &Lab) -> Result<()> {
    in_dumps(lab, ("runc", "checkpoint"), 0)
}

fn in_restores(lab: &Lab, prey: Prey) -> Result<()> {
    let mut here = NodeName::A;
    let collector = Collector::start(lab, here, "witness")?;
    let mut hunt = Hunt::new(prey);
    let mut round = 0;
    while hunt.goes_on(round)? {
        let underway = migration("witness", here).budget(BUDGET).start(lab)?;
        hunt.round(lab, here.peer(), underway)?;
        let heard = collector.has_heard_one_whole_process(LONGEST);
        here = heard.map_err(|error| error.context(format!("in round {round}")))?;
        round += 1;
    }
    Ok(())
}

fn criu_at_any_moment_of_a_restore(lab: &Lab) -> Result<()> {
    in_restores(lab, ("criu", "restore"))
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

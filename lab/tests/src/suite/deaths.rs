//! Whoever is killed, and whenever: in the end exactly one copy runs, never did two, and none stood still for longer
//! than its budget.

use std::time::Duration;

use anyhow::Result;
use transship_lab::{Lab, NodeName};

use crate::evidence::Collector;
use crate::node;
use crate::scenario::Scenario;
use crate::transship::migration;

/// Every step of the source, by the name that faults know it by.
const SOURCE: [&str; 14] = [
    "prepare",
    "startwatchdog",
    "raisefence",
    "freeze",
    "capture",
    "seal",
    "awaitheld",
    "checkstill",
    "decide",
    "go",
    "kill",
    "carry",
    "retire",
    "clean",
];
/// Every step of the target.
const TARGET: [&str; 6] = ["restore", "held", "adopt", "lowerexpected", "resume", "clean"];

/// With no watchdog there is no recovery; but nothing is frozen or fenced yet, and the next agent ends the migration.
const BEFORE_THE_WATCHDOG: [&str; 2] = ["source:prepare", "source:startwatchdog"];

/// What becomes of an agent that was killed.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It is started again at once.
    ComesBack,
    /// It isn't started any more: its watchdog's recovery has to do.
    Never,
}

pub fn all() -> Vec<Scenario> {
    let mut scenarios = vec![];
    for (end, node, steps) in [("source", NodeName::A, &SOURCE[..]), ("target", NodeName::B, &TARGET[..])] {
        for step in steps {
            for (then, said) in [(Then::ComesBack, "comes_back"), (Then::Never, "stays_away")] {
                let point = format!("{end}:{step}");
                let name = format!("deaths::the_{end}_s_agent_dies_at_{step}_and_{said}");
                scenarios.push(Scenario::new(name, move |lab| agent_dies(lab, node, &point, then)));
            }
        }
    }
    scenarios
}

/// How long the workload may stand still.
const BUDGET: &str = "4s";
/// The budget, and what a busy machine adds until an expired one has been acted on.
const LONGEST: Duration = Duration::from_millis(5000);

fn agent_dies(lab: &Lab, whose: NodeName, point: &str, then: Then) -> Result<()> {
    let collector = Collector::start(lab, NodeName::A, "witness")?;
    let node = lab.node(whose);
    node::agent_with(node, &format!("die@{point}"))?;
    let underway = migration("witness", NodeName::A).budget(BUDGET).start(lab)?;
    node::await_death(node)?;
    if let Then::ComesBack = then {
        node.start_agent(&[])?;
    }
    // What it is told isn't what counts: it may have been told nothing.
    underway.finish()?;
    if !node::agent_runs(node)? && BEFORE_THE_WATCHDOG.contains(&point) {
        collector.has_heard_one_whole_process(LONGEST)?;
        node.start_agent(&[])?;
    }
    node::await_the_end_of_all_migrations(lab)?;
    collector.has_heard_one_whole_process(LONGEST).map(drop)
}

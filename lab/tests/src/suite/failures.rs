//! What fails on the way ends with the source running on, nothing left on either node, and a word that helps.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName};
use transship_proto::cri::Mount;

use crate::evidence::{Counter, Pair};
use crate::footprint::Footprint;
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{Report, migrate, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("failures":
        a_file_that_the_target_lacks,
        a_connection_that_is_cut,
        a_bit_that_is_flipped,
        a_target_without_room,
        a_target_agent_that_dies_in_the_transfer,
        a_target_agent_that_dies_in_the_restore,
        a_budget_that_is_over_while_the_source_agent_hangs,
        a_budget_that_is_over_while_the_target_agent_hangs,
        a_pod_of_two_containers_runs_on_when_the_target_agent_dies,
        a_pod_of_two_containers_runs_on_when_the_budget_is_over,
    )
}

/// How long both nodes may take to clean up, also where a watchdog has to notice first.
const CLEAN: Duration = Duration::from_secs(20);
/// Where the counter of these scenarios runs, and where it can't get to.
const HERE: NodeName = NodeName::A;

/// Starts a counter, has `fail` bring a migration to its failure, and sees that nothing but the counter is left. When
/// what was at fault is mended, the counter can be moved.
fn fails(lab: &Lab, reasons: &[&str], fail: impl FnOnce() -> Result<Report>) -> Result<()> {
    let mut counter = Counter::start(lab, HERE, "counter")?;
    let before = Footprint::of(lab)?;
    fail()?.failed_with(reasons)?;
    counter.runs_on()?;
    node::await_the_end_of_all_migrations(lab)?;
    for node in lab.nodes() {
        node::agent_without_faults(node)?;
    }
    before.awaited(lab, CLEAN)?;
    counter.has_written_each_number_once()?;

    let count = counter.count()?;
    migrate(lab, "counter", HERE)?;
    counter.runs_on_at(HERE.peer(), count)
}

fn a_connection_that_is_cut(lab: &Lab) -> Result<()> {
    node::agent_with(lab.node(HERE), "cut@20")?;
    fails(lab, &["ConnectionLost"], || migration("counter", HERE).run(lab))
}

fn a_bit_that_is_flipped(lab: &Lab) -> Result<()> {
    node::agent_with(lab.node(HERE), "flip@20")?;
    fails(lab, &["ContentCorrupt"], || migration("counter", HERE).run(lab))
}

fn a_target_without_room(lab: &Lab) -> Result<()> {
    node::agent_with(lab.node(HERE.peer()), "capacity@4194304")?;
    fails(lab, &["TargetFull"], || migration("counter", HERE).run(lab))
}

fn a_target_agent_that_dies_in_the_transfer(lab: &Lab) -> Result<()> {
    let (source, target) = (lab.node(HERE), lab.node(HERE.peer()));
    node::agent_with(source, "hold@source:seal")?;
    fails(lab, &["ConnectionLost", "TargetLost"], || {
        let underway = migration("counter", HERE).start(lab)?;
        node::await_hold(source)?;
        target.kill_agent()?;
        node::release(source)?;
        underway.finish()
    })
}

fn a_target_agent_that_dies_in_the_restore(lab: &Lab) -> Result<()> {
    node::agent_with(lab.node(HERE.peer()), "die@target:restore")?;
    fails(lab, &["ConnectionLost", "TargetLost"], || migration("counter", HERE).run(lab))
}

fn a_budget_that_is_over_while_the_source_agent_hangs(lab: &Lab) -> Result<()> {
    let source = lab.node(HERE);
    node::agent_with(source, "hold@source:seal")?;
    fails(lab, &["FreezeBudgetExceeded"], || {
        let underway = migration("counter", HERE).budget("2s").start(lab)?;
        node::await_hold(source)?;
        let running = node::must_run(lab, HERE, "counter")?;
        // The agent does nothing: it is the watchdog that lets the counter go on.
        Counter::started(lab, "counter", &running.address)?.runs_on()?;
        node::release(source)?;
        underway.finish()
    })
}

fn a_budget_that_is_over_while_the_target_agent_hangs(lab: &Lab) -> Result<()> {
    let target = lab.node(HERE.peer());
    node::agent_with(target, "hold@target:restore")?;
    fails(lab, &["FreezeBudgetExceeded"], || {
        let underway = migration("counter", HERE).budget("2s").start(lab)?;
        node::await_hold(target)?;
        let running = node::must_run(lab, HERE, "counter")?;
        Counter::started(lab, "counter", &running.address)?.runs_on()?;
        node::release(target)?;
        underway.finish()
    })
}

/// Starts two containers of one Pod, has `fail` bring a migration to its failure, and sees that both run on as one.
fn pair_fails(lab: &Lab, reasons: &[&str], fail: impl FnOnce(&Pair) -> Result<Report>) -> Result<()> {
    let mut pair = Pair::start(lab, HERE, "pair")?;
    let before = Footprint::of(lab)?;
    fail(&pair)?.failed_with(reasons)?;
    pair.runs_on()?;
    node::await_the_end_of_all_migrations(lab)?;
    for node in lab.nodes() {
        node::agent_without_faults(node)?;
    }
    before.awaited(lab, CLEAN)?;

    let count = pair.count()?;
    migrate(lab, "pair", HERE)?;
    pair.runs_on_at(HERE.peer(), count)
}

/// At the first of its restores, after which the second was to come.
fn a_pod_of_two_containers_runs_on_when_the_target_agent_dies(lab: &Lab) -> Result<()> {
    node::agent_with(lab.node(HERE.peer()), "die@target:held")?;
    pair_fails(lab, &["ConnectionLost", "TargetLost"], |_| migration("pair", HERE).run(lab))
}

fn a_pod_of_two_containers_runs_on_when_the_budget_is_over(lab: &Lab) -> Result<()> {
    let source = lab.node(HERE);
    node::agent_with(source, "hold@source:seal")?;
    pair_fails(lab, &["FreezeBudgetExceeded"], |pair| {
        let underway = migration("pair", HERE).budget("2s").start(lab)?;
        node::await_hold(source)?;
        // The agent does nothing: it is the watchdog that lets both go on.
        pair.runs_on()?;
        node::release(source)?;
        underway.finish()
    })
}

/// A folder of the host that both nodes have, but only one with the file that the counter holds open.
fn a_file_that_the_target_lacks(lab: &Lab) -> Result<()> {
    let workload = Counter::workload("counter", 16);
    let workload = workload
        .clone()
        .with_arguments([&workload.arguments[..], &["--file".into(), "/host/count".into()]].concat());
    for node in lab.nodes() {
        node.run(&["mkdir", "-p", "/srv/data"])?;
    }
    let (a, b) = (lab.node(HERE), lab.node(HERE.peer()));
    b.image_of(&workload)?;
    let mut config = workload.container(&a.image_of(&workload)?);
    config.mounts.push(Mount {
        host_path: "/srv/data".to_owned(),
        container_path: "/host".to_owned(),
        ..Mount::default()
    });
    let container = a.cri()?.run(a.prepare(&workload)?, config)?;
    let counter = Counter::started(lab, "counter", &container.address)?;

    let before = Footprint::of(lab)?;
    let report = migration("counter", HERE).run(lab)?;
    report.failed_with(&["RestoreFailed"])?;
    ensure!(
        report.message.contains("host/count"),
        "it doesn't say which file is missing: {}",
        report.message
    );
    let file = report.criu_log.strip_prefix("a:").context("CRIU's log isn't kept on the source")?;
    ensure!(a.run(&["cat", file])?.contains("Error ("), "{file} isn't CRIU's log");
    counter.runs_on()?;
    before.awaited(lab, CLEAN)
}

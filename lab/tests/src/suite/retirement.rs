//! What has been released runs not one instruction more.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName, Workload, until};
use transship_proto::cri::Mount;
use transship_workloads::counters::Counters;

use crate::evidence::PATIENCE;
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{Report, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("retirement":
        a_released_source_doesn_t_count_on,
        a_source_that_is_killed_by_a_recovery_doesn_t_count_on,
    )
}

/// Children that count beside their parent.
const CHILDREN: usize = 4;
/// A folder of the host that both nodes have, each its own.
const SHARED: &str = "/srv/shared";

/// Starts processes that count on `a` as fast as they can, brings a migration to the moment after the decision by
/// `hold_there`, and sees that from then on no counter on `a` moves, while all do on `b`.
fn counts_no_more(lab: &Lab, faults: &str, after: impl FnOnce() -> Result<()>) -> Result<()> {
    let (a, b) = (lab.node(NodeName::A), lab.node(NodeName::B));
    for node in [a, b] {
        node.run(&["mkdir", "-p", SHARED])?;
    }
    // The mapping's file must be there for the restore; what lies in it shows whether somebody counts.
    let on_target = counters(b)?;
    Counters::create(&on_target, CHILDREN + 1).context("make the target's counters")?;
    let arguments = ["--n", &CHILDREN.to_string(), "--file", "/shared/counters"];
    let workload = Workload::new("processes", "processes").with_arguments(arguments);
    b.image_of(&workload)?;
    let mut config = workload.container(&a.image_of(&workload)?);
    config.mounts.push(Mount {
        host_path: SHARED.to_owned(),
        container_path: "/shared".to_owned(),
        ..Mount::default()
    });
    a.cri()?.run(a.prepare(&workload)?, config)?;
    let on_source = counters(a)?;
    let source = until("the counters of the source", PATIENCE, || Ok(Counters::map(&on_source).ok()))?;
    all_move(&source, "before the migration")?;

    node::agent_with(a, faults)?;
    let underway = migration("processes", NodeName::A).start(lab)?;
    // Everything after the decision lies after this point.
    let decided = || {
        let records = fs::read_dir(a.path("/var/lib/transship/migrations")?).into_iter().flatten().flatten();
        let mut open = records.filter(|migration| !migration.path().join("done").exists());
        Ok::<_, anyhow::Error>(open.any(|migration| migration.path().join("record").exists()))
    };
    until("the decision", PATIENCE, || Ok(decided().unwrap_or(false).then_some(())))?;
    let stands_at = source.read();
    after()?;
    let _: Report = underway.finish()?;
    node::await_the_end_of_all_migrations(lab)?;
    node::must_run(lab, NodeName::B, "processes")?;
    let target = Counters::map(&on_target).context("map the target's counters")?;
    all_move(&target, "on the target")?;
    let now = source.read();
    ensure!(now == stands_at, "the source has counted on, from {stands_at:?} to {now:?}");
    Ok(())
}

/// Where a node has its counters.
fn counters(node: &transship_lab::Node) -> Result<PathBuf> {
    Ok(node.path(SHARED)?.join("counters"))
}

/// Every process counts.
fn all_move(counters: &Counters, when: &str) -> Result<()> {
    let before = counters.read();
    until(&format!("counting by every process {when}"), PATIENCE, || {
        let now = counters.read();
        Ok(before.iter().zip(&now).all(|(before, now)| now > before).then_some(()))
    })?;
    Ok(())
}

fn a_released_source_doesn_t_count_on(lab: &Lab) -> Result<()> {
    let source = lab.node(NodeName::A);
    counts_no_more(lab, "hold@source:kill", || {
        node::await_hold(source)?;
        node::release(source)
    })
}

fn a_source_that_is_killed_by_a_recovery_doesn_t_count_on(lab: &Lab) -> Result<()> {
    let source = lab.node(NodeName::A);
    counts_no_more(lab, "die@source:go", || node::await_death(source))
}

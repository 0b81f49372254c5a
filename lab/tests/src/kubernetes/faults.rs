//! Parts die or are cut off in the middle of a move: in the end one copy runs, with its state.

use anyhow::{Result, ensure};
use serde_json::Value;
use transship_lab::{Component, Lab, NodeName, until};

use super::cluster::{Site, controller, counting, name, node_of, pod};
use crate::evidence::{Counter, PATIENCE};
use crate::node;
use crate::scenario::{Scenario, scenarios};

pub fn all() -> Vec<Scenario> {
    scenarios!("faults":
        the_coordinator_is_killed_before_the_freeze_and_comes_back,
        the_coordinator_is_killed_after_the_decision_and_comes_back,
        the_api_server_is_away_while_the_pod_is_frozen,
        a_restore_that_fails_leaves_the_source_and_a_second_try_succeeds,
        the_migration_is_cancelled_before_the_freeze,
    )
}

/// A Deployment's Pod, its counter, and the node that it is to go to.
fn started<'a>(site: &Site<'a>) -> Result<(Value, Counter<'a>, NodeName)> {
    let pod = site.start("web", &controller("apps/v1", "Deployment", "web", counting()))?;
    let counter = site.counter(&pod)?;
    let to = node_of(&pod)?.peer();
    Ok((pod, counter, to))
}

/// The Pod runs on that node, alone, and has counted on from `counted`.
fn runs_at(site: &Site<'_>, node: NodeName, counted: u64) -> Result<()> {
    let pod = site.ready("web")?;
    ensure!(node_of(&pod)? == node, "it runs on {}", node_of(&pod)?);
    let counter = site.counter(&pod)?;
    ensure!(counter.count()? >= counted, "it has forgotten what it had counted");
    counter.runs_on()
}

/// The coordinator dies while the source's agent holds at `point`, and comes back when the agent has gone on.
fn coordinator_dies(lab: &Lab, point: &str) -> Result<()> {
    let site = Site::of(lab)?;
    let (pod, counter, to) = started(&site)?;
    let source = lab.node(to.peer());
    node::agent_with(source, &format!("hold@{point}"))?;
    let counted = counter.count()?;
    let underway = site.begin(name(&pod), to, &[])?;
    node::await_hold(source)?;
    site.cluster.kill_coordinator()?;
    node::release(source)?;
    site.cluster.start_coordinator()?;
    underway.finish()?.succeeded()?;
    runs_at(&site, to, counted)
}

fn the_coordinator_is_killed_before_the_freeze_and_comes_back(lab: &Lab) -> Result<()> {
    coordinator_dies(lab, "source:freeze")
}

fn the_coordinator_is_killed_after_the_decision_and_comes_back(lab: &Lab) -> Result<()> {
    coordinator_dies(lab, "source:go")
}

fn the_api_server_is_away_while_the_pod_is_frozen(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let (pod, counter, to) = started(&site)?;
    let source = lab.node(to.peer());
    node::agent_with(source, "hold@source:capture")?;
    let counted = counter.count()?;
    let underway = site.begin(name(&pod), to, &[])?;
    node::await_hold(source)?;
    site.cluster.pause(Component::ApiServer)?;
    node::release(source)?;
    // Nobody is waited for: the Pod runs there while nobody can be told.
    let runs = runs_by_its_runtime(lab, to);
    site.cluster.resume(Component::ApiServer)?;
    ensure!(runs? >= counted, "it has forgotten what it had counted");
    underway.finish()?.succeeded()?;
    runs_at(&site, to, counted)
}

/// What the one Pod on a node has counted to, by the word of nobody but the node's runtime and the Pod itself.
fn runs_by_its_runtime(lab: &Lab, node: NodeName) -> Result<u64> {
    let cri = lab.node(node).cri()?;
    let address = until("the address of a Pod", PATIENCE, || {
        let Some(sandbox) = cri.pods()?.pop() else { return Ok(None) };
        Ok(Some(cri.address(&sandbox.id)?).filter(|address| !address.is_empty()))
    })?;
    Counter::started(lab, "web", &address)?.count()
}

fn a_restore_that_fails_leaves_the_source_and_a_second_try_succeeds(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let (pod, counter, to) = started(&site)?;
    node::agent_with(lab.node(to), "die@target:restore")?;
    let counted = counter.count()?;
    let underway = site.begin(name(&pod), to, &[])?;
    node::await_death(lab.node(to))?;
    node::agent_without_faults(lab.node(to))?;
    underway.finish()?.failed_with(&["TargetLost"])?;
    runs_at(&site, to.peer(), counted)?;
    site.migrate(name(&pod), to, &[])?.succeeded()?;
    runs_at(&site, to, counted)
}

fn the_migration_is_cancelled_before_the_freeze(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let pod = site.start("web", &pod("web", counting()))?;
    let counter = site.counter(&pod)?;
    let to = node_of(&pod)?.peer();
    let source = lab.node(to.peer());
    node::agent_with(source, "hold@source:freeze")?;
    let counted = counter.count()?;
    let underway = site.begin("web", to, &[])?;
    node::await_hold(source)?;
    let migration = site.migration()?;
    site.cluster.kubectl(&["migrate", "cancel", name(&migration)])?;
    node::release(source)?;
    underway.finish()?.failed_with(&["Cancelled"])?;
    runs_at(&site, to.peer(), counted)
}

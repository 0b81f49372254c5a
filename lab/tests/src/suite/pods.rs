//! Pods of kubelets, moved as a coordinator asks for it: with their memory and volumes, or not at all.

use std::thread;

use anyhow::{Context, Result, ensure};
use transship_lab::{Container, Lab, NodeName};
use transship_proto::v1::Outcome;
use transship_proto::{Fault, Reason};

use crate::coordinator::{Coordinator, Handover};
use crate::evidence::{Counter, Pair};
use crate::kubelet::{Pod, VOLUME};
use crate::node;
use crate::scenario::{Scenario, scenarios};

pub fn all() -> Vec<Scenario> {
    scenarios!("pods":
        one_moves_with_its_memory_and_its_volume,
        two_containers_go_together,
        one_is_cancelled_before_it_is_frozen,
        a_target_s_agent_that_dies_in_the_restore,
        a_source_s_agent_that_dies_after_the_decision,
        only_a_coordinator_may_ask,
    )
}

/// Where the Pods of these scenarios begin, and where they go.
const HERE: NodeName = NodeName::A;
const THERE: NodeName = NodeName::B;

/// A counter that keeps its file in the Pod's volume.
fn counter() -> Pod {
    let file = format!("{VOLUME}/count");
    Pod::new("web", "counter", &[("main", &["--interval-ms=10", "--mib=16", "--file", &file])])
}

/// Starts a counter's Pod.
fn started<'a>(lab: &'a Lab, pod: &Pod) -> Result<Counter<'a>> {
    let container = pod.start(lab, HERE)?;
    Counter::started(lab, "web", &container.address)
}

/// Has a kubelet start the target while the migration comes to its end and `meanwhile` happens; how both ended.
fn with_kubelet(
    lab: &Lab,
    handover: &Handover<'_>,
    target: &Pod,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<(Outcome, Result<Container>)> {
    thread::scope(|scope| {
        let kubelet = scope.spawn(|| target.start(lab, THERE));
        let outcome = meanwhile().and_then(|()| handover.outcome());
        if outcome.is_err() {
            // It would wait for the agent as long as that may take.
            target.remove(lab, THERE)?;
        }
        let started = kubelet.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((outcome?, started))
    })
}

/// Both Pods' ends of a migration that went well: the one runs, the other doesn't.
fn moved(lab: &Lab, pod: &Pod, (outcome, started): (Outcome, Result<Container>)) -> Result<Outcome> {
    ensure!(outcome.migrated, "not moved: {}: {}", outcome.reason, outcome.message);
    started.context("the target's kubelet")?;
    pod.has_ended(lab, HERE)?;
    Ok(outcome)
}

fn refused(answer: Result<(), Fault>, reason: Reason) -> Result<()> {
    ensure!(
        answer.as_ref().is_err_and(|fault| fault.reason == reason),
        "not refused for {reason}: {answer:?}"
    );
    Ok(())
}

fn one_moves_with_its_memory_and_its_volume(lab: &Lab) -> Result<()> {
    let coordinator = Coordinator::of(lab)?;
    let pod = counter();
    let target = pod.twin();
    lab.node(THERE).image_of(&transship_lab::Workload::new("web", "counter"))?;
    let mut counter = started(lab, &pod)?;
    let looked = coordinator.preflight(HERE, &pod)??;
    ensure!(looked.refusals.is_empty(), "refused: {:?}", looked.refusals);
    ensure!(looked.memory > 16 << 20, "only {} bytes of memory were found", looked.memory);

    let handover = coordinator.begin(HERE, &pod, &target)?;
    handover.begin_again()??;
    handover.prepared()?;
    ensure!(!target.is_on(lab, THERE)?, "the agent has made a Pod that is its kubelet's to make");
    let before = counter.count()?;
    moved(lab, &pod, with_kubelet(lab, &handover, &target, || Ok(()))?)?;
    counter.runs_on_at(THERE, before)?;
    counter.has_written_each_number_once()?;

    // Its kubelet would start what has ended, as long as the Pod is there.
    pod.is_not_started_again(lab, HERE, "was migrated to another node")?;
    refused(coordinator.forget(HERE, handover.id())?, Reason::AlreadyMigrating)?;
    pod.remove(lab, HERE)?;
    handover.forget()?;
    counter.runs_on()?;

    // And back, by another migration.
    let back = target.twin();
    let handover = coordinator.begin(THERE, &target, &back)?;
    handover.prepared()?;
    ensure!(handover.cancel()?, "a cancel before the freeze was too late");
    ensure!(handover.outcome()?.reason == "Cancelled", "not cancelled");
    handover.forget()
}

fn two_containers_go_together(lab: &Lab) -> Result<()> {
    let coordinator = Coordinator::of(lab)?;
    let pod = Pod::new("pair", "pair", &[("keeper", &["--role=keeper"]), ("teller", &["--role=teller"])]);
    let target = pod.twin();
    lab.node(THERE).image_of(&transship_lab::Workload::new("pair", "pair"))?;
    let container = pod.start(lab, HERE)?;
    let mut pair = Pair::started(lab, "pair", &container.address)?;
    let before = pair.count()?;
    let handover = coordinator.begin(HERE, &pod, &target)?;
    handover.prepared()?;
    moved(lab, &pod, with_kubelet(lab, &handover, &target, || Ok(()))?)?;
    pair.runs_on_at(THERE, before)?;
    pod.remove(lab, HERE)?;
    handover.forget()
}

fn one_is_cancelled_before_it_is_frozen(lab: &Lab) -> Result<()> {
    let coordinator = Coordinator::of(lab)?;
    let pod = counter();
    let target = pod.twin();
    let counter = started(lab, &pod)?;
    let handover = coordinator.begin(HERE, &pod, &target)?;
    handover.prepared()?;
    ensure!(handover.cancel()?, "it wasn't heard");
    let outcome = handover.outcome()?;
    ensure!(!outcome.migrated && outcome.reason == "Cancelled", "it ended with {}", outcome.reason);
    ensure!(!handover.cancel()?, "a cancel after the end was heard");
    counter.runs_on()?;

    // Its kubelet may come all the same: it doesn't start the Pod empty.
    let started = target.start(lab, THERE);
    ensure!(started.is_err(), "the target was started without its state");
    node::await_the_end_of_all_migrations(lab)?;
    handover.forget()?;
    counter.runs_on()?;
    counter.has_written_each_number_once()
}

fn a_target_s_agent_that_dies_in_the_restore(lab: &Lab) -> Result<()> {
    let coordinator = Coordinator::of(lab)?;
    let pod = counter();
    let target = pod.twin();
    let counter = started(lab, &pod)?;
    let there = lab.node(THERE);
    node::agent_with(there, "die@target:restore")?;
    let handover = coordinator.begin(HERE, &pod, &target)?;
    handover.prepared()?;
    let (outcome, started) = with_kubelet(lab, &handover, &target, || {
        node::await_death(there)?;
        node::agent_without_faults(there)
    })?;
    let lost = ["ConnectionLost", "TargetLost"].contains(&outcome.reason.as_str());
    ensure!(!outcome.migrated && lost, "it ended with {}: {}", outcome.reason, outcome.message);
    ensure!(started.is_err(), "the target was started without its state");
    counter.runs_on()?;
    node::await_the_end_of_all_migrations(lab)?;
    handover.forget()?;
    counter.runs_on()?;
    counter.has_written_each_number_once()
}

fn a_source_s_agent_that_dies_after_the_decision(lab: &Lab) -> Result<()> {
    let coordinator = Coordinator::of(lab)?;
    let pod = counter();
    let target = pod.twin();
    let mut counter = started(lab, &pod)?;
    let here = lab.node(HERE);
    node::agent_with(here, "die@source:kill")?;
    let handover = coordinator.begin(HERE, &pod, &target)?;
    handover.prepared()?;
    let before = counter.count()?;
    let ended = with_kubelet(lab, &handover, &target, || {
        node::await_death(here)?;
        node::agent_without_faults(here)
    })?;
    let outcome = moved(lab, &pod, ended)?;
    counter.runs_on_at(THERE, before)?;
    pod.is_not_started_again(lab, HERE, "was migrated to another node")?;

    // It is told the same by whoever comes next, as long as nobody has settled the Pods.
    here.kill_agent()?;
    here.start_agent(&[])?;
    ensure!(handover.outcome()? == outcome, "another outcome is told now");
    pod.is_not_started_again(lab, HERE, "was migrated to another node")?;
    pod.remove(lab, HERE)?;
    handover.forget()?;
    counter.runs_on()?;
    counter.has_written_each_number_once()
}

fn only_a_coordinator_may_ask(lab: &Lab) -> Result<()> {
    let node = Coordinator::with_certificate(lab, "b")?;
    let (pod, nothing) = (counter(), "m-1");
    started(lab, &pod)?;
    refused(node.preflight(HERE, &pod)?.map(drop), Reason::Forbidden)?;
    refused(node.forget(HERE, nothing)?, Reason::Forbidden)?;
    let coordinator = Coordinator::of(lab)?;
    coordinator.forget(HERE, nothing)??;
    let looked = coordinator.preflight(HERE, &pod.twin())??;
    ensure!(looked.refusals.iter().any(|refusal| refusal.reason == "PodNotFound"), "found: {looked:?}");
    Ok(())
}

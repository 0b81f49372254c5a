//! Why a node can't take a Pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, Taint, Toleration};
use kube::ResourceExt;
use transship_proto::mismatches;
use transship_proto::v1::NodeFacts;

use super::quantity::{Amounts, add, thousandths};
use super::{Site, Wish};
use crate::target::Refusal;

/// The first reason against `site`, if there is one. `here` is the Pod's own node, `source` what its agent says.
pub fn rejection(wish: &Wish<'_>, here: &str, source: Option<&NodeFacts>, site: &Site) -> Option<Refusal> {
    by_cluster(wish, here, site).or_else(|| no_agent(source, site))
}

/// The first reason against `site` that is seen without asking its agent.
pub fn by_cluster(wish: &Wish<'_>, here: &str, site: &Site) -> Option<Refusal> {
    if site.node.name_any() == here {
        return refused("SameNode", "the Pod is there already");
    }
    not_ready(&site.node)
        .or_else(|| unwanted(wish, &site.node))
        .or_else(|| tainted(wish.pod, &site.node))
        .or_else(|| full(wish.pod, site))
}

fn refused(reason: &str, message: impl Into<String>) -> Option<Refusal> {
    Some(Refusal::new(reason, message))
}

fn not_ready(node: &Node) -> Option<Refusal> {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if !conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return refused("NodeNotReady", "its kubelet doesn't say that it is ready");
    }
    let cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    cordoned.then(|| Refusal::new("Unschedulable", "it is cordoned; kubectl uncordon lets Pods come"))
}

fn unwanted(wish: &Wish<'_>, node: &Node) -> Option<Refusal> {
    let spec = wish.pod.spec.as_ref()?;
    let labels = node.labels();
    let mut selectors = spec.node_selector.iter().flatten().chain(wish.node_selector);
    if let Some((key, value)) = selectors.find(|(key, value)| labels.get(*key) != Some(value)) {
        return refused("PinnedToSource", format!("it lacks the label {key}={value}"));
    }
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fits = terms.iter().any(|term| matches(term, labels));
    (!fits).then(|| Refusal::new("PinnedToSource", "the Pod's node affinity leaves it out"))
}

/// Whether a node with these labels fits a term. Fields are the pin of a former move, which isn't kept.
fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>) -> bool {
    term.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let listed = |value: &String| wanted.values.iter().flatten().any(|one| one == value);
        let number = |text: &String| text.parse::<i64>().ok();
        let bound = wanted.values.iter().flatten().next().and_then(number);
        match wanted.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value > bound),
            "Lt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value < bound),
            _ => false,
        }
    })
}

fn tainted(pod: &Pod, node: &Node) -> Option<Refusal> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let tolerations: Vec<&Toleration> = tolerations.collect();
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taint = taints.find(|taint| {
        taint.effect != "PreferNoSchedule"
            && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    })?;
    refused("Tainted", format!("the Pod doesn't tolerate its taint {}:{}", taint.key, taint.effect))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let any_value = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && any_value))
        && (any_value
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

fn full(pod: &Pod, site: &Site) -> Option<Refusal> {
    let (room, used) = (allocatable(&site.node), used(&site.pods));
    for (resource, wanted) in requests(pod).into_iter().filter(|(_, wanted)| *wanted > 0) {
        let left = room.get(&resource).copied().unwrap_or(0) - used.get(&resource).copied().unwrap_or(0);
        if wanted > left {
            let what = format!("it has {} of {resource} left and the Pod wants {}", told(left), told(wanted));
            return refused("InsufficientResources", what);
        }
    }
    None
}

fn told(thousandths: i128) -> String {
    if thousandths % 1000 == 0 { (thousandths / 1000).to_string() } else { format!("{thousandths}m") }
}

fn no_agent(source: Option<&NodeFacts>, site: &Site) -> Option<Refusal> {
    let agent = match &site.agent {
        Ok(agent) => agent,
        Err(refusal) => return Some(refusal.clone()),
    };
    if let Some(first) = agent.no_restore.first() {
        return Some(first.clone());
    }
    let first = mismatches(source?, &agent.facts).into_iter().next()?;
    Some(Refusal::from(first))
}

/// What the node has for Pods.
pub fn allocatable(node: &Node) -> Amounts {
    let mut amounts = Amounts::new();
    add(&mut amounts, node.status.iter().flat_map(|status| status.allocatable.iter().flatten()));
    amounts
}

/// What its Pods have asked for. Those that are over hold nothing.
pub fn used(pods: &[Pod]) -> Amounts {
    let over = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let mut sum = Amounts::new();
    for (name, amount) in pods.iter().filter(over).flat_map(requests) {
        *sum.entry(name).or_default() += amount;
    }
    sum
}

/// What a running Pod asks for: its containers and sidecars, and the overhead of its runtime class. Init containers
/// that end don't come to the target.
pub fn requests(pod: &Pod) -> Amounts {
    let mut sum = Amounts::from([("pods".to_owned(), 1_000)]);
    let Some(spec) = &pod.spec else { return sum };
    let sidecars =
        spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    for container in spec.containers.iter().chain(sidecars) {
        add(&mut sum, container.resources.iter().flat_map(|resources| resources.requests.iter().flatten()));
    }
    add(&mut sum, spec.overhead.iter().flatten());
    // Resources of the Pod as a whole stand in place of those of its containers.
    for (name, amount) in spec.resources.iter().flat_map(|resources| resources.requests.iter().flatten()) {
        sum.extend(thousandths(amount).map(|amount| (name.clone(), amount)));
    }
    sum
}

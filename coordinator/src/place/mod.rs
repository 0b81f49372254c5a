//! Where a Pod goes: the nodes that can take it, and the best of them.
//!
//! Cheap rules first; kube-scheduler has the last word, since the target Pod goes through it all the same.

mod filter;
mod quantity;
mod score;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use transship_proto::v1::NodeFacts;

use crate::api::Candidate;
use crate::target::Refusal;

/// A node as the cluster and its agent see it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The node's object.
    pub node: Node,
    /// The Pods that are bound to it.
    pub pods: Vec<Pod>,
    /// What its agent says, or why there is no answer.
    pub agent: Result<Report, Refusal>,
}

/// What an agent says of its node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// What two nodes must agree in.
    pub facts: NodeFacts,
    /// Why nothing can be restored there; empty if it can.
    pub no_restore: Vec<Refusal>,
}

/// What is looked for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The Pod that is to be moved.
    pub pod: &'a Pod,
    /// The only node that will do, if one was named.
    pub target_node: Option<&'a str>,
    /// Labels that a node must have, beside what the Pod asks for.
    pub node_selector: &'a BTreeMap<String, String>,
}

/// A node to move to, if there is one, and why each of the others isn't it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// The best node that can take the Pod.
    pub node: Option<String>,
    /// Nodes that can't, in the order of their names.
    pub rejected: Vec<Candidate>,
}

/// Chooses among `sites`, of which one is the Pod's own node.
pub fn choose(wish: &Wish<'_>, sites: &[Site]) -> Choice {
    let here = here(wish);
    let source = sites.iter().find(|site| site.node.name_any() == here);
    let facts = source.and_then(|site| site.agent.as_ref().ok()).map(|report| &report.facts);

    let mut choice = Choice::default();
    let mut best: Option<(score::Score, String)> = None;
    for site in sites.iter().filter(|site| is_wanted(wish, site)) {
        let name = site.node.name_any();
        match filter::rejection(wish, here, facts, site) {
            Some(refusal) => {
                choice.rejected.push(Candidate {
                    node: name,
                    reason: refusal.reason,
                    message: refusal.message,
                });
            }
            // Between equals the name decides, so that the same question has the same answer.
            None => best = best.max(Some((score::score(wish.pod, site), name))),
        }
    }
    if let Some(only) =
        wish.target_node.filter(|only| !sites.iter().any(|site| site.node.name_any() == *only))
    {
        choice.rejected.push(Candidate {
            node: only.into(),
            reason: "NodeNotFound".into(),
            message: format!("there is no node {only}"),
        });
    }
    choice.rejected.sort_by(|a, b| a.node.cmp(&b.node));
    choice.node = best.map(|(_, name)| name);
    choice
}

/// Whether a site's agent has anything to say: it is the source's, or nothing else speaks against its node.
pub fn worth_asking(wish: &Wish<'_>, site: &Site) -> bool {
    let here = here(wish);
    site.node.name_any() == here || (is_wanted(wish, site) && filter::by_cluster(wish, here, site).is_none())
}

fn here<'a>(wish: &Wish<'a>) -> &'a str {
    wish.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn is_wanted(wish: &Wish<'_>, site: &Site) -> bool {
    wish.target_node.is_none_or(|only| site.node.name_any() == only)
}

/// The refusal of a migration for which no node was found.
pub fn nowhere(wish: &Wish<'_>, choice: &Choice) -> Refusal {
    match (wish.target_node, choice.rejected.as_slice()) {
        (Some(_), [only]) => Refusal::new(&*only.reason, &*only.message),
        (_, rejected) => {
            let told: Vec<_> = rejected
                .iter()
                .map(|node| format!("{}: {} ({})", node.node, node.message, node.reason))
                .collect();
            Refusal::new("NoFeasibleNode", format!("no node can take it; {}", told.join("; ")))
        }
    }
}

#[cfg(test)]
mod tests;

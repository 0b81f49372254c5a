//! Looking at all nodes for one that can take a Pod.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::agents::Agents;
use crate::cluster::{Cluster, ClusterError};
use crate::place::{Choice, Report, Site, Wish, choose, nowhere, worth_asking};
use crate::plan::Answer;
use crate::target::Refusal;

/// How many agents are asked at once.
const ASKED: usize = 16;

/// The best node, by the cluster's objects and what its agents say. Only agents of nodes that could take the Pod, and the
/// source's, are asked.
pub async fn survey(cluster: &Cluster, agents: &Agents, wish: &Wish<'_>) -> Result<Answer, ClusterError> {
    let (nodes, pods) = tokio::try_join!(cluster.nodes(), cluster.bound_pods())?;
    let mut by_node: HashMap<String, Vec<Pod>> = HashMap::new();
    for pod in pods {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
        by_node.entry(node).or_default().push(pod);
    }
    let unasked = || Err(Refusal::new("NotAsked", "its agent was not asked"));
    let sites = nodes.into_iter().map(|node| {
        let pods = by_node.remove(&node.name_any()).unwrap_or_default();
        Site { node, pods, agent: unasked() }
    });
    let sites: Vec<Site> = stream::iter(sites)
        .map(|mut site| async move {
            if worth_asking(wish, &site) {
                site.agent = ask(agents, &site).await;
            }
            site
        })
        .buffer_unordered(ASKED)
        .collect()
        .await;
    let choice = choose(wish, &sites);
    let chosen = choice.node.clone().ok_or_else(|| nowhere(wish, &choice));
    Ok(Answer::Surveyed(chosen, Choice { node: None, ..choice }))
}

async fn ask(agents: &Agents, site: &Site) -> Result<Report, Refusal> {
    let said = agents.describe(&site.node).await.map_err(|failure| failure.refusal())?;
    let problems = said.problems.into_iter().map(|problem| Refusal::new(problem.reason, problem.message));
    Ok(Report { facts: said.facts.unwrap_or_default(), no_restore: problems.collect() })
}

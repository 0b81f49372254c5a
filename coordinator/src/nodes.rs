//! What each node can do, kept up to date where everybody may see it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::ResourceExt;
use tokio::time::sleep;
use tracing::warn;

use crate::agents::Agents;
use crate::api::NodeReport;
use crate::cluster::{Cluster, ClusterError};

/// How often.
const EVERY: Duration = Duration::from_secs(60);
/// How many agents are asked at once.
const ASKED: usize = 16;

/// Asks and writes for ever, into the ConfigMap of `namespace`.
pub async fn report_nodes(cluster: Cluster, agents: Agents, namespace: String) {
    let mut written = BTreeMap::new();
    loop {
        match report(&cluster, &agents, &namespace, &written).await {
            Ok(reports) => written = reports,
            Err(error) => warn!(%error, "what nodes can do is not up to date"),
        }
        sleep(EVERY).await;
    }
}

async fn report(
    cluster: &Cluster,
    agents: &Agents,
    namespace: &str,
    written: &BTreeMap<String, NodeReport>,
) -> Result<BTreeMap<String, NodeReport>, ClusterError> {
    let nodes = cluster.nodes().await?;
    let reports: BTreeMap<String, NodeReport> = stream::iter(&nodes)
        .map(|node| async {
            let said = agents.describe(node).await.map_err(|failure| failure.refusal());
            (node.name_any(), NodeReport::of(said))
        })
        .buffer_unordered(ASKED)
        .collect()
        .await;
    if reports != *written {
        cluster.publish_nodes(namespace, &reports).await?;
    }
    Ok(reports)
}

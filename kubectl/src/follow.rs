//! One migration, until it is over.

use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use transship_coordinator::api::PodMigration;

use crate::cluster::Cluster;

/// How waiting ended.
pub enum Ended {
    /// It is over.
    Over(Box<PodMigration>),
    /// Not within the time.
    TimedOut,
}

/// Waits for its end; `seen` gets every state of it on the way.
pub async fn follow(
    cluster: &Cluster,
    name: &str,
    limit: Duration,
    mut seen: impl FnMut(&PodMigration),
) -> Result<Ended> {
    let following = async {
        // Errors of a watch are tried again by itself; that there is no API server ends with the time.
        let states = watcher::watch_object(cluster.migrations(), name).default_backoff();
        let mut states = states.filter_map(|state| async { state.ok() }).boxed();
        while let Some(state) = states.next().await {
            let Some(migration) = state else {
                return Err(anyhow!("the migration {name} was deleted before its end was seen"));
            };
            seen(&migration);
            if migration.status.as_ref().is_some_and(|status| status.phase.is_final()) {
                return Ok(Ended::Over(Box::new(migration)));
            }
        }
        Err(anyhow!("the migration {name} can't be watched any more"))
    };
    tokio::time::timeout(limit, following).await.unwrap_or(Ok(Ended::TimedOut))
}

//! Whether the watch tells what the API server has.
//!
//! A watch that is dropped without a word looks like one that has nothing to tell. So what it has told is compared with a
//! list now and then; what it missed is looked at all the same.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::time::sleep;
use tracing::warn;

use crate::api::PodMigration;
use crate::cluster::Cluster;
use crate::controller::Poke;
use crate::metrics::Metrics;

/// How often.
const EVERY: Duration = Duration::from_secs(10);

/// What a list had that the watch hadn't told, and when that was first so. By UID.
#[derive(Debug, Default)]
struct Behind(HashMap<String, (String, Instant)>);

/// Compares for ever.
pub async fn watch_the_watch(cluster: Cluster, told: Store<PodMigration>, poke: Poke, metrics: Metrics) {
    let mut behind = Behind::default();
    loop {
        sleep(EVERY).await;
        let listed = match cluster.migrations().await {
            Ok(listed) => listed,
            Err(error) => {
                // Then the watch can't be better, and the lease says so soon.
                warn!(%error, "migrations can't be listed");
                continue;
            }
        };
        let now = Instant::now();
        let stale =
            behind.compare(&listed, |at| told.get(at).and_then(|object| object.resource_version()), now);
        metrics.stale(stale.as_secs());
        if stale > EVERY {
            warn!("the watch of migrations is {} s behind the API server", stale.as_secs());
            for migration in &listed {
                poke.poke(ObjectRef::from(migration));
            }
        }
    }
}

impl Behind {
    /// How long the watch has been behind, at the most.
    fn compare(
        &mut self,
        listed: &[PodMigration],
        told: impl Fn(&ObjectRef<PodMigration>) -> Option<String>,
        now: Instant,
    ) -> Duration {
        let mut behind = HashMap::new();
        for migration in listed {
            let told = told(&ObjectRef::from(migration)).unwrap_or_default();
            let uid = migration.uid().unwrap_or_default();
            if Some(&told) == migration.metadata.resource_version.as_ref() {
                continue;
            }
            // One that changes all the time is never told exactly: behind is whoever tells the same old thing.
            let before = self.0.remove(&uid).filter(|(was, _)| *was == told);
            behind.insert(uid, before.unwrap_or((told, now)));
        }
        self.0 = behind;
        self.0.values().map(|(_, since)| now.duration_since(*since)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PodMigrationSpec;

    fn listed(version: &str) -> [PodMigration; 1] {
        let mut migration = PodMigration::new("m", PodMigrationSpec::of("p"));
        migration.metadata.uid = Some("u".into());
        migration.metadata.resource_version = Some(version.into());
        [migration]
    }

    #[test]
    fn a_watch_that_stands_still_is_behind_and_one_that_follows_is_not() {
        let (start, mut behind) = (Instant::now(), Behind::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut seconds = |list: &str, told: &str, second| {
            behind.compare(&listed(list), |_| Some(told.to_owned()), at(second)).as_secs()
        };
        assert_eq!(seconds("1", "1", 0), 0);
        assert_eq!(seconds("2", "1", 10), 0);
        assert_eq!(seconds("3", "1", 20), 10);
        assert_eq!(seconds("4", "3", 30), 0, "it moves");
        assert_eq!(seconds("4", "3", 40), 10);
        assert_eq!(seconds("4", "4", 50), 0);
    }
}

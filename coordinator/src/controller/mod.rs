//! Brings migrations on: sees how things are, plans, does one step, and again.

mod follow;
mod perform;
mod survey;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tracing::{debug, info, warn};

use crate::agents::Agents;
use crate::api::{ConditionType, HANDOVER, PodMigration, PodMigrationStatus, condition};
use crate::cluster::{Cluster, ClusterError};
use crate::metrics::Metrics;
use crate::plan::{self, Observed, Told};
use crate::queue::{Limits, Queue, Route};
use follow::{Followers, Line};
use perform::Went;

/// How long one watch lasts. A connection that was dropped without a word is noticed 5 s after that.
const WATCH: u32 = 25;
/// How many steps in a row are done for one migration before others have their turn.
const STEPS: usize = 40;
/// How many migrations are brought on at once.
const CONCURRENT: u16 = 16;
/// The pause after an error, and what it grows to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));

/// What bringing on a migration needs.
pub struct Context {
    cluster: Cluster,
    agents: Agents,
    queue: Mutex<Queue>,
    followers: Followers,
    metrics: Metrics,
    poke: mpsc::UnboundedSender<ObjectRef<PodMigration>>,
    /// UIDs of those that wait for a turn, and how to find them.
    queued: Mutex<HashMap<String, ObjectRef<PodMigration>>>,
    failures: Mutex<HashMap<ObjectRef<PodMigration>, u32>>,
}

/// Brings all migrations on until `ends`; `watched` gets the store of what the watch tells.
///
/// # Errors
/// When the migrations that are under way can't be listed.
pub async fn run(
    client: Client,
    cluster: Cluster,
    agents: Agents,
    metrics: Metrics,
    watched: impl FnOnce(Store<PodMigration>, Poke),
    ends: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), ClusterError> {
    let (poke, poked) = mpsc::unbounded_channel();
    let mut queue = Queue::new(Limits::default());
    // By the objects themselves and not by a cache: nothing is granted twice.
    for migration in cluster.migrations().await? {
        if let (Some(uid), Some(route)) = (migration.uid(), permit(&migration)) {
            queue.hold(&uid, route);
        }
    }
    let context = Arc::new(Context {
        cluster,
        agents,
        queue: Mutex::new(queue),
        followers: Followers::default(),
        metrics,
        poke: poke.clone(),
        queued: Mutex::default(),
        failures: Mutex::default(),
    });
    let controller =
        Controller::new(Api::<PodMigration>::all(client.clone()), watcher::Config::default().timeout(WATCH))
            .with_config(Config::default().concurrency(CONCURRENT))
            .watches(
                Api::<Pod>::all(client),
                watcher::Config::default().timeout(WATCH).labels(HANDOVER),
                migration_of,
            )
            .reconcile_on(UnboundedReceiverStream::new(poked))
            .graceful_shutdown_on(ends);
    watched(controller.store(), Poke(poke));
    let reconciled = controller.run(reconcile, after_error, context);
    reconciled
        .for_each(|ended| async move {
            if let Err(error) = ended {
                debug!(%error, "a round ended with an error");
            }
        })
        .await;
    Ok(())
}

/// Has a migration looked at again.
#[derive(Debug, Clone)]
pub struct Poke(mpsc::UnboundedSender<ObjectRef<PodMigration>>);

impl Poke {
    /// It is looked at soon.
    pub fn poke(&self, migration: ObjectRef<PodMigration>) {
        // Nobody listens only when the controller has ended.
        let _ended = self.0.send(migration);
    }
}

fn migration_of(pod: Pod) -> Option<ObjectRef<PodMigration>> {
    let name = pod.labels().get(HANDOVER)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

/// The route for which a migration has a permit, by its own status.
fn permit(migration: &PodMigration) -> Option<Route> {
    let status = migration.status.as_ref()?;
    let is = |kind, wanted: &str| condition(status, kind).is_some_and(|condition| condition.status == wanted);
    let decided = condition(status, ConditionType::Released).is_some() || is(ConditionType::Complete, "True");
    let granted = is(ConditionType::Queued, "False") && !decided;
    let (source, target) = (status.source.as_ref()?, status.target.as_ref()?);
    granted.then(|| Route { from: source.node.clone(), to: target.node.clone() })
}

async fn reconcile(seen: Arc<PodMigration>, context: Arc<Context>) -> Result<Action, ClusterError> {
    let at = ObjectRef::from(&*seen);
    let ended = context.bring_on(&seen, &at).await;
    if ended.is_ok() {
        lock(&context.failures).remove(&at);
    }
    ended
}

fn after_error(seen: Arc<PodMigration>, error: &ClusterError, context: Arc<Context>) -> Action {
    let mut failures = lock(&context.failures);
    let tries = failures.entry(ObjectRef::from(&*seen)).or_default();
    let pause = (PAUSE.0 * 2u32.saturating_pow((*tries).min(8))).min(PAUSE.1);
    *tries += 1;
    warn!(migration = seen.name_any(), namespace = seen.namespace(), %error, tries = *tries, "tried again in {pause:?}");
    Action::requeue(pause)
}

impl Context {
    async fn bring_on(
        &self,
        seen: &PodMigration,
        at: &ObjectRef<PodMigration>,
    ) -> Result<Action, ClusterError> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        // What the watch tells may be old; what is planned by must not be.
        let Some(mut migration) = self.cluster.migration(&namespace, &name).await? else {
            self.let_go(&seen.uid().unwrap_or_default());
            return Ok(Action::await_change());
        };
        for _ in 0..STEPS {
            let now = now();
            self.keep_count(&migration);
            let (source, target) = self.pods(&namespace, &migration).await?;
            let told = self.told(&migration, at);
            let observed = Observed {
                migration: &migration,
                source: source.as_ref(),
                target: target.as_ref(),
                told: &told,
                now: &now,
            };
            let planned = plan::plan(&observed);
            debug!(migration = name, namespace, step = planned.step.as_ref(), "planned");
            migration = self.record(migration, planned.status, source.as_ref(), target.as_ref()).await?;
            let pods = perform::Pods { source: source.as_ref(), target: target.as_ref() };
            let went = perform::perform(self, &migration, &pods, planned.step, at).await?;
            let (answer, pause) = match went {
                Went::On => (None, None),
                Went::Said(answer) => (Some(answer), None),
                Went::Waits(pause) => (None, Some(pause)),
                Went::SaidAndWaits(answer, pause) => (Some(answer), Some(pause)),
                Went::Gone => return Ok(Action::await_change()),
                Went::Changed(changed) => {
                    migration = *changed;
                    (None, None)
                }
            };
            if let Some(answer) = answer {
                let status = plan::answered(&migration, answer, &now);
                migration = self.record(migration, status, source.as_ref(), target.as_ref()).await?;
            }
            if let Some(pause) = pause {
                return Ok(Action::requeue(pause));
            }
        }
        info!(migration = name, namespace, "goes on in its next turn");
        Ok(Action::requeue(PAUSE.0))
    }

    /// Writes a status that has changed, and tells what is new.
    async fn record(
        &self,
        migration: PodMigration,
        status: PodMigrationStatus,
        source: Option<&Pod>,
        target: Option<&Pod>,
    ) -> Result<PodMigration, ClusterError> {
        let before = migration.status.clone().unwrap_or_default();
        if before == status {
            return Ok(migration);
        }
        let written = self.cluster.write_status(&migration, &status).await?;
        self.metrics.count(&before, &status);
        let news = plan::news(&before, &status);
        if !news.is_empty() {
            info!(migration = written.name_any(), namespace = written.namespace(), phase = %status.phase,
                  reason = status.reason, message = status.message, "goes on");
            let mut regarding = vec![written.object_ref(&())];
            // A dry run is none of the Pod's concern.
            let pods = source.into_iter().chain(target).filter(|_| !migration.spec.dry_run);
            regarding.extend(pods.map(|pod| pod.object_ref(&())));
            self.cluster.tell(&news, &regarding).await;
        }
        Ok(written)
    }

    async fn pods(
        &self,
        namespace: &str,
        migration: &PodMigration,
    ) -> Result<(Option<Pod>, Option<Pod>), ClusterError> {
        let status = migration.status.as_ref();
        if status.is_some_and(|status| status.phase.is_final()) {
            return Ok((None, None));
        }
        let target = status.and_then(|status| status.target.as_ref()?.pod_name.as_deref());
        let target = async {
            match target {
                Some(name) => self.cluster.pod(namespace, name).await,
                None => Ok(None),
            }
        };
        tokio::try_join!(self.cluster.pod(namespace, &migration.spec.pod_ref.name), target)
    }

    /// What the source's agent has told, if it has been told to begin and isn't through.
    fn told(&self, migration: &PodMigration, at: &ObjectRef<PodMigration>) -> Told {
        let uid = migration.uid().unwrap_or_default();
        let status = migration.status.clone().unwrap_or_default();
        let begun = condition(&status, ConditionType::Begun).is_some_and(|begun| begun.status == "True");
        let through = condition(&status, ConditionType::Released).is_some();
        let Some(source) = status.source.filter(|_| begun && !through) else {
            self.followers.stop(&uid);
            return Told::default();
        };
        self.followers.told(&uid, || {
            let (poke, at) = (Poke(self.poke.clone()), at.clone());
            Line {
                migration: uid.clone(),
                node: source.node,
                cluster: self.cluster.clone(),
                agents: self.agents.clone(),
                poke: Box::new(move || poke.poke(at.clone())),
            }
        })
    }

    /// Keeps the queue in step with the object.
    fn keep_count(&self, migration: &PodMigration) {
        let uid = migration.uid().unwrap_or_default();
        match permit(migration) {
            Some(route) => lock(&self.queue).hold(&uid, route),
            None if waits(migration) => {}
            None => self.leave(&uid),
        }
        let queue = lock(&self.queue);
        self.metrics.queue(queue.under_way(), queue.waiting());
    }

    fn let_go(&self, uid: &str) {
        self.followers.stop(uid);
        self.leave(uid);
    }

    fn leave(&self, uid: &str) {
        lock(&self.queued).remove(uid);
        let granted = lock(&self.queue).leave(uid);
        self.wake(&granted);
    }

    fn wake(&self, granted: &[String]) {
        let mut queued = lock(&self.queued);
        for at in granted.iter().filter_map(|uid| queued.remove(uid)) {
            Poke(self.poke.clone()).poke(at);
        }
    }
}

/// Whether it is on its way to a permit: then the queue knows it and isn't to forget it.
fn waits(migration: &PodMigration) -> bool {
    let status = migration.status.as_ref();
    let Some(status) = status.filter(|_| migration.metadata.deletion_timestamp.is_none()) else {
        return false;
    };
    condition(status, ConditionType::Queued).is_some_and(|queued| queued.status == "True")
        && condition(status, ConditionType::Released).is_none()
        && !migration.spec.cancel
}

/// The time as objects have it: in whole seconds.
fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

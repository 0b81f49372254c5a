//! What the coordinator reads and writes by the API server.
//!
//! Every write asks first whether this process still leads, and names the object's UID, so that none meets another object
//! that took its name. Whatever is applied is applied by one field manager.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use either::Either;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Error as KubeError, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::api::{
    EXPECTED_GATE, FIELD_MANAGER, FINALIZER, HANDOVER, NODES, NodeReport, PodMigration, PodMigrationStatus,
};
use crate::leader::{NotLeading, Term, WRITE};
use crate::plan::News;
use crate::target::Refusal;

/// How long a read may take.
const READ: Duration = Duration::from_secs(15);

/// The cluster, as its API server has it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    recorder: Recorder,
    term: Term,
}

/// A read or write that gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nothing may be written.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// The API server's answer, or that there is none.
    #[error("{0}")]
    Api(#[source] Box<KubeError>),
    /// The API server didn't answer in time.
    #[error("the API server took longer than {} s to answer", .0.as_secs())]
    TimedOut(Duration),
}

impl From<KubeError> for ClusterError {
    fn from(error: KubeError) -> Self {
        Self::Api(Box::new(error))
    }
}

impl ClusterError {
    /// The HTTP code and the message of the API server's own answer.
    fn answer(&self) -> Option<(u16, &str)> {
        match self {
            Self::Api(error) => match &**error {
                KubeError::Api(status) => Some((status.code, &status.message)),
                _ => None,
            },
            _ => None,
        }
    }

    fn is(&self, code: u16) -> bool {
        self.answer().is_some_and(|(answered, _)| answered == code)
    }
}

/// What became of the target Pod that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is there, made now or before.
    There,
    /// There is no room for it now.
    Later(Refusal),
    /// The API server doesn't want it.
    Refused(Refusal),
}

type Result<T> = std::result::Result<T, ClusterError>;

impl Cluster {
    /// Behind that client; writes are made within `term`.
    pub fn new(client: Client, term: Term, me: &str) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance: Some(me.into()) };
        Self { recorder: Recorder::new(client.clone(), reporter), client, term }
    }

    /// Whether writes are made now: asked before agents are told to do something, too.
    ///
    /// # Errors
    /// When this process may not be the leader any more.
    pub fn may_write(&self) -> Result<()> {
        Ok(self.term.check()?)
    }

    /// A migration, if it is there.
    pub async fn migration(&self, namespace: &str, name: &str) -> Result<Option<PodMigration>> {
        read(self.api::<PodMigration>(namespace).get_opt(name)).await
    }

    /// All migrations.
    pub async fn migrations(&self) -> Result<Vec<PodMigration>> {
        Ok(read(Api::<PodMigration>::all(self.client.clone()).list(&ListParams::default())).await?.items)
    }

    /// A Pod, if it is there.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>> {
        read(self.api::<Pod>(namespace).get_opt(name)).await
    }

    /// A node, if it is there.
    pub async fn node(&self, name: &str) -> Result<Option<Node>> {
        read(Api::<Node>::all(self.client.clone()).get_opt(name)).await
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(read(Api::<Node>::all(self.client.clone()).list(&ListParams::default())).await?.items)
    }

    /// All Pods that are bound to a node and not over.
    pub async fn bound_pods(&self) -> Result<Vec<Pod>> {
        let params = ListParams::default()
            .fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed")
            // A moment old is new enough to choose a node by, and spares the API server its store.
            .match_any();
        Ok(read(Api::<Pod>::all(self.client.clone()).list(&params)).await?.items)
    }

    /// Writes the status of `migration` as it was read: refused if it has changed since.
    pub async fn write_status(
        &self,
        migration: &PodMigration,
        status: &PodMigrationStatus,
    ) -> Result<PodMigration> {
        let mut patch = skeleton(migration);
        patch["metadata"]["resourceVersion"] = json!(migration.metadata.resource_version);
        patch["status"] = serde_json::to_value(status).map_err(KubeError::SerdeError)?;
        let (api, params) = (self.api_of(migration), PatchParams::apply(FIELD_MANAGER).force());
        self.write(api.patch_status(&migration.name_any(), &params, &Patch::Apply(patch))).await
    }

    /// Puts the finalizer on a migration, or takes it off.
    pub async fn set_held(&self, migration: &PodMigration, held: bool) -> Result<PodMigration> {
        let mut patch = skeleton(migration);
        // What one manager has applied and doesn't apply again goes.
        if held {
            patch["metadata"]["finalizers"] = json!([FINALIZER]);
        }
        let (api, params) = (self.api_of(migration), PatchParams::apply(FIELD_MANAGER).force());
        self.write(api.patch(&migration.name_any(), &params, &Patch::Apply(patch))).await
    }

    /// Deletes a migration's object.
    pub async fn delete_migration(&self, migration: &PodMigration) -> Result<()> {
        self.delete(migration).await
    }

    /// Puts the handover label on a Pod, or takes it off.
    pub async fn label(&self, pod: &Pod, migration: Option<&str>) -> Result<()> {
        self.patch_pod(pod, json!({"metadata": {"uid": pod.metadata.uid, "labels": {HANDOVER: migration}}}))
            .await
    }

    /// Keeps evictions away from both Pods: a budget of one's own is what the API server answers with 429 by, and it goes
    /// with the migration's object at the latest.
    pub async fn protect(&self, migration: &PodMigration) -> Result<()> {
        let name = budget_name(migration);
        let budget = json!({
            "apiVersion": PodDisruptionBudget::api_version(&()),
            "kind": PodDisruptionBudget::kind(&()),
            "metadata": {"name": name, "ownerReferences": [migration.owner_ref(&())]},
            // No more than two Pods ever bear the label, so none of them may go.
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {HANDOVER: migration.name_any()}}},
        });
        let api = self.api::<PodDisruptionBudget>(&migration.namespace().unwrap_or_default());
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.write(api.patch(&name, &params, &Patch::Apply(budget))).await.map(drop)
    }

    /// Lets evictions come again.
    pub async fn unprotect(&self, migration: &PodMigration) -> Result<()> {
        let api = self.api::<PodDisruptionBudget>(&migration.namespace().unwrap_or_default());
        let (name, params) = (budget_name(migration), DeleteParams::default());
        gone(self.write(api.delete(&name, &params)).await)
    }

    /// Makes the target Pod.
    pub async fn create(&self, pod: &Pod) -> Result<Creation> {
        let api = self.api::<Pod>(&pod.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let Err(error) = self.write(api.create(&params, pod)).await else { return Ok(Creation::There) };
        let refusal = |reason: &str, told: &str| {
            Refusal::new(reason, format!("the API server doesn't make the target Pod: {told}"))
        };
        match error.answer() {
            Some((409, told)) if told.contains("already exists") => Ok(Creation::There),
            Some((403, told)) if told.contains("exceeded quota") => {
                Ok(Creation::Later(refusal("QuotaExceeded", told)))
            }
            Some((403, told)) => Ok(Creation::Refused(refusal("Forbidden", told))),
            Some((400 | 404 | 422, told)) => Ok(Creation::Refused(refusal("TargetInvalid", told))),
            _ => Err(error),
        }
    }

    /// A merge patch of a Pod.
    pub async fn patch_pod(&self, pod: &Pod, patch: Value) -> Result<()> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let api = self.api_of(pod);
        self.write(api.patch(&pod.name_any(), &params, &Patch::Merge(patch))).await.map(drop)
    }

    /// A strategic merge patch of a Pod's status: conditions go by their type.
    pub async fn patch_pod_status(&self, pod: &Pod, patch: Value) -> Result<()> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let api = self.api_of(pod);
        self.write(api.patch_status(&pod.name_any(), &params, &Patch::Strategic(patch))).await.map(drop)
    }

    /// Takes the scheduling gate from the target. Gates of others stay.
    pub async fn ungate(&self, pod: &Pod) -> Result<()> {
        let gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
        let others: Vec<_> = gates.filter(|gate| gate.name != EXPECTED_GATE).collect();
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "spec": {"schedulingGates": others}});
        self.patch_pod(pod, patch).await
    }

    /// Deletes a Pod with the grace period that it has.
    pub async fn delete_pod(&self, pod: &Pod) -> Result<()> {
        self.delete(pod).await
    }

    /// Writes what nodes can do into the coordinator's own namespace.
    pub async fn publish_nodes(&self, namespace: &str, reports: &BTreeMap<String, NodeReport>) -> Result<()> {
        let told = reports.iter().map(|(node, report)| Ok((node, serde_json::to_string(report)?)));
        let told: BTreeMap<_, _> =
            told.collect::<std::result::Result<_, _>>().map_err(KubeError::SerdeError)?;
        let map = json!({
            "apiVersion": ConfigMap::api_version(&()),
            "kind": ConfigMap::kind(&()),
            "metadata": {"name": NODES},
            "data": told,
        });
        let (api, params) = (self.api::<ConfigMap>(namespace), PatchParams::apply(FIELD_MANAGER).force());
        self.write(api.patch(NODES, &params, &Patch::Apply(map))).await.map(drop)
    }

    /// Events on the migration and its Pods. That one is lost is logged and no more: the status tells the same.
    pub async fn tell(&self, news: &[News], regarding: &[ObjectReference]) {
        for news in news {
            let event = Event {
                type_: if news.warning { EventType::Warning } else { EventType::Normal },
                reason: news.reason.clone(),
                note: Some(news.note.chars().take(1000).collect()),
                action: "Migrate".into(),
                secondary: None,
            };
            for object in regarding {
                match timeout(WRITE, self.recorder.publish(&event, object)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, reason = news.reason, "an event was not written"),
                    Err(_) => debug!(reason = news.reason, "an event was not written in time"),
                }
            }
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn api_of<K>(&self, object: &K) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        self.api(&object.namespace().unwrap_or_default())
    }

    async fn delete<K>(&self, object: &K) -> Result<()>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let only = Preconditions { uid: object.meta().uid.clone(), resource_version: None };
        let params = DeleteParams::default().preconditions(only);
        gone(self.write(self.api_of(object).delete(&object.name_any(), &params)).await)
    }

    async fn write<T>(&self, call: impl Future<Output = std::result::Result<T, KubeError>>) -> Result<T> {
        self.term.check()?;
        match timeout(WRITE, call).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(ClusterError::TimedOut(WRITE)),
        }
    }
}

async fn read<T>(call: impl Future<Output = std::result::Result<T, KubeError>>) -> Result<T> {
    match timeout(READ, call).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(ClusterError::TimedOut(READ)),
    }
}

/// What is gone, or another by now, needn't be deleted.
fn gone<K: Debug>(deleted: Result<Either<K, kube::core::Status>>) -> Result<()> {
    match deleted {
        Err(error) if error.is(404) => Ok(()),
        Err(error) if error.is(409) => {
            warn!(%error, "not deleted: it isn't the object that was meant");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn skeleton(migration: &PodMigration) -> Value {
    json!({
        "apiVersion": PodMigration::api_version(&()),
        "kind": PodMigration::kind(&()),
        // With it, nothing is made where the object is gone.
        "metadata": {"name": migration.name_any(), "uid": migration.metadata.uid},
    })
}

fn budget_name(migration: &PodMigration) -> String {
    format!("transship-{}", migration.name_any())
}

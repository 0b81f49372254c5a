//! Whose Pod it is, and how it passes from the source to the target.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use super::Refusal;

/// The finalizer by which a Job counts its Pods.
const JOB_TRACKING: &str = "batch.kubernetes.io/job-tracking";
const JOB_LABELS: &[&str] =
    &["job-name", "controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"];

/// The kind of controller that a Pod belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Nobody restarts or replaces it.
    Nobody,
    /// A ReplicaSet, of a Deployment or its own.
    ReplicaSet,
    /// A Job, which counts its Pods.
    Job,
    /// Anything else: what it would do to two Pods is unknown.
    Other,
}

impl Owner {
    /// The owner of that Pod, by its controlling reference.
    pub fn of(pod: &Pod) -> Self {
        let mut owners = pod.metadata.owner_references.iter().flatten();
        match owners.find(|owner| owner.controller == Some(true)) {
            None => Self::Nobody,
            Some(owner) => match (owner.api_version.as_str(), owner.kind.as_str()) {
                ("apps/v1", "ReplicaSet") => Self::ReplicaSet,
                ("batch/v1", "Job") => Self::Job,
                _ => Self::Other,
            },
        }
    }

    /// The labels by which the controller knows its own: the target goes without them until it is adopted, or the
    /// controller would take it for a Pod too many.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::ReplicaSet => &["pod-template-hash"],
            Self::Job => JOB_LABELS,
            Self::Nobody | Self::Other => &[],
        }
    }

    /// Why Pods of this owner aren't moved, if they aren't.
    pub fn refusal(pod: &Pod) -> Option<Refusal> {
        let owner =
            pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            (_, "DaemonSet") => Some(Refusal::new(
                "DaemonSetPod",
                "every node has its own Pod of a DaemonSet: there is nothing to move",
            )),
            (_, "Node") => Some(Refusal::new(
                "StaticPod",
                "it is made by its node's kubelet from a file there: move the file",
            )),
            _ if Self::of(pod) == Self::Other => Some(Refusal::new(
                "OwnerNotSupported",
                format!(
                    "it belongs to the {} {}, and Pods of that kind of controller can't be moved yet",
                    owner.kind, owner.name
                ),
            )),
            _ => None,
        }
    }
}

/// A merge patch that makes the target the owner's: its labels, owner references and finalizers in one step.
pub fn adoption(source: &Pod, target: &Pod) -> Value {
    let labels = Owner::of(source).labels();
    let known_by: Map<String, Value> = source
        .metadata
        .labels
        .iter()
        .flatten()
        .filter(|(key, _)| labels.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut finalizers = target.metadata.finalizers.clone().unwrap_or_default();
    let tracked = has_tracking(source) && !has_tracking(target);
    finalizers.extend(tracked.then(|| JOB_TRACKING.to_owned()));
    json!({"metadata": {
        "uid": target.metadata.uid,
        "labels": known_by,
        "ownerReferences": source.metadata.owner_references,
        "finalizers": finalizers,
    }})
}

/// Whether the target is its owner's already. A source that nobody owns (any more) has nothing to pass on.
pub fn is_adopted(source: &Pod, target: &Pod) -> bool {
    let references = |pod: &Pod| pod.metadata.owner_references.clone().unwrap_or_default();
    let theirs = references(target);
    references(source).iter().all(|owner| theirs.iter().any(|other| other.uid == owner.uid))
}

/// A merge patch after which the source counts for nobody, where its controller would take its end for a failure.
pub fn release(source: &Pod) -> Option<Value> {
    if Owner::of(source) != Owner::Job {
        return None;
    }
    let labels: Map<String, Value> = JOB_LABELS.iter().map(|label| ((*label).into(), Value::Null)).collect();
    let finalizers: Vec<_> =
        source.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != JOB_TRACKING).collect();
    Some(json!({"metadata": {
        "uid": source.metadata.uid,
        "labels": labels,
        "ownerReferences": null,
        "finalizers": finalizers,
    }}))
}

fn has_tracking(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == JOB_TRACKING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(api_version: &str, kind: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {
            "name": "p", "uid": "s-1",
            "labels": {"app": "x", "pod-template-hash": "h", "job-name": "j"},
            "finalizers": [JOB_TRACKING],
            "ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": "o", "uid": "o-1", "controller": true}],
        }}))
        .unwrap()
    }

    fn target() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "t", "uid": "t-1"}})).unwrap()
    }

    #[test]
    fn a_replica_set_gets_its_hash_and_its_reference() {
        let patch = adoption(&owned("apps/v1", "ReplicaSet"), &target());
        assert_eq!(patch["metadata"]["uid"], "t-1", "only this very Pod");
        assert_eq!(patch["metadata"]["labels"], json!({"pod-template-hash": "h"}));
        assert_eq!(patch["metadata"]["ownerReferences"][0]["uid"], "o-1");
        assert_eq!(release(&owned("apps/v1", "ReplicaSet")), None);
        assert!(!is_adopted(&owned("apps/v1", "ReplicaSet"), &target()));
        assert!(is_adopted(&target(), &target()), "nobody's");
    }

    #[test]
    fn a_job_loses_sight_of_the_source() {
        let source = owned("batch/v1", "Job");
        let patch = adoption(&source, &target());
        assert_eq!(patch["metadata"]["finalizers"], json!([JOB_TRACKING]));
        let release = release(&source).unwrap();
        assert_eq!(release["metadata"]["ownerReferences"], Value::Null);
        assert_eq!(release["metadata"]["finalizers"], json!([]));
        assert_eq!(release["metadata"]["labels"]["job-name"], Value::Null);
        assert_eq!(release["metadata"]["labels"].get("app"), None);
    }

    #[test]
    fn controllers_that_nobody_has_looked_at_are_refused() {
        let reason = |api: &str, kind: &str| Owner::refusal(&owned(api, kind)).map(|refusal| refusal.reason);
        assert_eq!(reason("apps/v1", "ReplicaSet"), None);
        assert_eq!(reason("apps/v1", "DaemonSet").as_deref(), Some("DaemonSetPod"));
        assert_eq!(reason("v1", "Node").as_deref(), Some("StaticPod"));
        assert_eq!(reason("apps/v1", "StatefulSet").as_deref(), Some("OwnerNotSupported"));
        assert_eq!(reason("example.com/v1", "ReplicaSet").as_deref(), Some("OwnerNotSupported"));
    }
}

//! From the source Pod to the one that is asked of the API server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, ContainerStatus, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, Pod, PodReadinessGate, PodSchedulingGate, PodSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Owner, name};
use crate::api::{EXPECTED_GATE, HANDOVER, RESUMED_GATE};

/// The field by which a Pod is pinned to one node and still goes through the scheduler.
const NODE_NAME: &str = "metadata.name";
/// Annotations that network plugins write for one Pod on one node.
const NETWORK_ANNOTATIONS: &[&str] = &[
    "cni.projectcalico.org/",
    "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status",
    "k8s.ovn.org/",
    "ovn.kubernetes.io/",
];
/// Annotations that the kubelet or the control plane write.
const SYSTEM_ANNOTATIONS: &[&str] = &["kubernetes.io/config.", "kubernetes.io/limit-ranger"];

/// What marks the target as one migration's.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// The migration's name.
    pub migration: &'a str,
    /// The UID of its object.
    pub migration_uid: &'a str,
    /// The node that the target is pinned to.
    pub node: &'a str,
}

/// The target Pod: the source's spec with what has run already left out, gated, pinned, and nobody's until it is
/// adopted.
pub fn build(source: &Pod, mark: Mark<'_>) -> Pod {
    let (name, generate_name) = name(source, mark.migration_uid);
    let owner = Owner::of(source);
    let mut labels: BTreeMap<_, _> = source.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !owner.labels().contains(&key.as_str()));
    labels.insert(HANDOVER.into(), mark.migration.into());

    let mut annotations = source.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| {
        !NETWORK_ANNOTATIONS.iter().chain(SYSTEM_ANNOTATIONS).any(|dropped| key.starts_with(dropped))
    });

    let statuses = source.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    let spec = source.spec.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(generate_name),
            namespace: source.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(target_spec(spec, statuses.unwrap_or_default(), mark.node)),
        status: None,
    }
}

fn target_spec(mut spec: PodSpec, statuses: &[ContainerStatus], node: &str) -> PodSpec {
    spec.node_name = None;
    spec.ephemeral_containers = None;
    for container in &mut spec.containers {
        already_started(container);
        pin_image(container, statuses);
    }
    // Init containers have run; sidecars among them move.
    let sidecars: Vec<_> = spec.init_containers.take().unwrap_or_default();
    let mut sidecars: Vec<_> = sidecars.into_iter().filter(is_sidecar).collect();
    sidecars.iter_mut().for_each(already_started);
    spec.init_containers = (!sidecars.is_empty()).then_some(sidecars);

    pin(&mut spec, node);
    spec.scheduling_gates = Some(vec![PodSchedulingGate { name: EXPECTED_GATE.into() }]);
    let mut gates = spec.readiness_gates.take().unwrap_or_default();
    gates.retain(|gate| gate.condition_type != RESUMED_GATE);
    gates.push(PodReadinessGate { condition_type: RESUMED_GATE.into() });
    spec.readiness_gates = Some(gates);
    spec
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// A hook that ran after the start must not run again, and a held container would never pass its startup probe.
fn already_started(container: &mut Container) {
    container.startup_probe = None;
    if let Some(lifecycle) = &mut container.lifecycle {
        lifecycle.post_start = None;
        if lifecycle.pre_stop.is_none() && lifecycle.stop_signal.is_none() {
            container.lifecycle = None;
        }
    }
}

/// The image by digest, where a registry gave one; else by its name, and the agents compare what that is.
fn pin_image(container: &mut Container, statuses: &[ContainerStatus]) {
    let id =
        statuses.iter().find(|status| status.name == container.name).map(|status| status.image_id.as_str());
    let by_digest =
        id.map(|id| id.rsplit_once("://").map_or(id, |(_, id)| id)).filter(|id| id.contains("@sha256:"));
    if let Some(image) = by_digest {
        container.image = Some(image.into());
    }
    if container.image_pull_policy.as_deref() == Some("Always") {
        container.image_pull_policy = Some("IfNotPresent".into());
    }
}

/// Adds the pin to every term (terms are ORed, requirements ANDed) and takes that of a former move away.
fn pin(spec: &mut PodSpec, node: &str) {
    let pin = NodeSelectorRequirement {
        key: NODE_NAME.into(),
        operator: "In".into(),
        values: Some(vec![node.into()]),
    };
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let nodes = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let required = nodes
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] });
    for term in &mut required.node_selector_terms {
        let fields = term.match_fields.get_or_insert_with(Vec::new);
        fields.retain(|field| field.key != NODE_NAME);
        fields.push(pin.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MARK: Mark<'_> = Mark { migration: "move-1", migration_uid: "u-1", node: "b" };

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn spec(target: &Pod) -> &PodSpec {
        target.spec.as_ref().unwrap()
    }

    #[test]
    fn a_target_is_gated_pinned_and_nobodys() {
        let target = build(
            &pod(json!({
                "metadata": {"name": "web-1-abcde", "generateName": "web-1-", "namespace": "shop", "uid": "s-1",
                    "labels": {"app": "web", "pod-template-hash": "1"},
                    "annotations": {"note": "kept", "cni.projectcalico.org/podIP": "10.0.0.9"},
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r", "controller": true}]},
                "spec": {"nodeName": "a", "containers": [{"name": "main", "image": "web:1"}]}
            })),
            MARK,
        );
        assert_eq!(target.metadata.uid, None);
        assert_eq!(target.metadata.owner_references, None);
        assert_eq!(
            serde_json::to_value(&target.metadata.labels).unwrap(),
            json!({"app": "web", HANDOVER: "move-1"})
        );
        assert_eq!(serde_json::to_value(&target.metadata.annotations).unwrap(), json!({"note": "kept"}));
        assert_eq!(spec(&target).node_name, None);
        assert_eq!(spec(&target).scheduling_gates.as_ref().unwrap()[0].name, EXPECTED_GATE);
        assert_eq!(spec(&target).readiness_gates.as_ref().unwrap()[0].condition_type, RESUMED_GATE);
    }

    #[test]
    fn the_pin_is_in_every_term_and_replaces_the_last_one() {
        let terms = json!([
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}],
             "matchExpressions": [{"key": "disk", "operator": "Exists"}]},
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}
        ]);
        let target = build(
            &pod(
                json!({"metadata": {"name": "db"}, "spec": {"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}}),
            ),
            MARK,
        );
        let affinity = serde_json::to_value(&spec(&target).affinity).unwrap();
        let terms =
            &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        let pin = json!([{"key": "metadata.name", "operator": "In", "values": ["b"]}]);
        assert_eq!(terms[0]["matchFields"], pin);
        assert_eq!(terms[1]["matchFields"], pin);
        assert_eq!(terms[0]["matchExpressions"][0]["key"], "disk");
    }

    #[test]
    fn a_target_of_a_target_differs_only_in_its_pin() {
        let source = pod(
            json!({"metadata": {"name": "db"}, "spec": {"containers": [{"name": "main", "image": "db:1"}]}}),
        );
        let once = build(&source, MARK);
        let twice = build(&once, MARK);
        assert_eq!(once.spec, twice.spec);
    }

    #[test]
    fn what_has_run_does_not_run_again() {
        let target = build(
            &pod(json!({"metadata": {"name": "db"}, "spec": {
                "initContainers": [{"name": "schema"}, {"name": "proxy", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}}],
                "containers": [{"name": "main", "startupProbe": {"tcpSocket": {"port": 1}}, "livenessProbe": {"tcpSocket": {"port": 1}},
                    "lifecycle": {"postStart": {"exec": {"command": ["true"]}}}}]}})),
            MARK,
        );
        let inits = spec(&target).init_containers.as_ref().unwrap();
        assert_eq!(inits.iter().map(|init| init.name.as_str()).collect::<Vec<_>>(), ["proxy"]);
        assert_eq!(inits[0].startup_probe, None);
        let main = &spec(&target).containers[0];
        assert!(main.startup_probe.is_none() && main.lifecycle.is_none() && main.liveness_probe.is_some());
    }

    #[test]
    fn an_image_goes_by_its_digest_where_it_has_one() {
        let by = |image_id: &str| {
            let source = pod(json!({"metadata": {"name": "db"},
                "spec": {"containers": [{"name": "main", "image": "db:1", "imagePullPolicy": "Always"}]},
                "status": {"containerStatuses": [{"name": "main", "image": "db:1", "imageID": image_id, "ready": true, "restartCount": 0}]}}));
            let target = build(&source, MARK);
            let main = &spec(&target).containers[0];
            assert_eq!(main.image_pull_policy.as_deref(), Some("IfNotPresent"));
            main.image.clone().unwrap()
        };
        assert_eq!(by("docker.io/library/db@sha256:12"), "docker.io/library/db@sha256:12");
        assert_eq!(by("docker-pullable://db@sha256:12"), "db@sha256:12");
        assert_eq!(by("sha256:12"), "db:1");
    }
}

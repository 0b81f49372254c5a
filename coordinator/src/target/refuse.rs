//! What can be refused by a look at the Pod alone.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use super::{Owner, Refusal};
use crate::api::{HANDOVER, MIGRATE};

/// Marks a Pod that a kubelet made from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The first reason for which `pod` can't be moved by the migration of that name, if there is one.
pub fn refusal(pod: &Pod, migration: &str) -> Option<Refusal> {
    let labels = pod.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    if label(MIGRATE) == Some("never") {
        return refused("MigrationForbidden", format!("its label {MIGRATE} says never"));
    }
    if let Some(other) = label(HANDOVER).filter(|other| *other != migration) {
        return refused(
            "AlreadyMigrating",
            format!(
                "the migration {other} has it; wait for that, or, if it is gone, take the label {HANDOVER} away"
            ),
        );
    }
    if pod.metadata.annotations.iter().flatten().any(|(key, _)| key == MIRROR) {
        return refused("StaticPod", "it is made by its node's kubelet from a file there: move the file");
    }
    Owner::refusal(pod).or_else(|| not_running(pod)).or_else(|| pod.spec.as_ref().and_then(by_spec))
}

fn refused(reason: &str, message: impl Into<String>) -> Option<Refusal> {
    Some(Refusal::new(reason, message))
}

fn not_running(pod: &Pod) -> Option<Refusal> {
    if pod.metadata.deletion_timestamp.is_some() {
        return refused("PodNotRunning", "it is being deleted");
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase != "Running" {
        return refused(
            "PodNotRunning",
            format!("its phase is {phase}; only a running Pod has a state to move"),
        );
    }
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let down =
        statuses.into_iter().find(|status| status.state.as_ref().is_none_or(|state| state.running.is_none()));
    down.and_then(|down| refused("PodNotRunning", format!("its container {} isn't running", down.name)))
}

fn by_spec(spec: &PodSpec) -> Option<Refusal> {
    for (shares, what) in [(spec.host_network, "network"), (spec.host_pid, "PID"), (spec.host_ipc, "IPC")] {
        if shares == Some(true) {
            return refused(
                "HostNamespace",
                format!("it shares its node's {what} namespace, which stays there"),
            );
        }
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        if container.tty == Some(true) {
            return refused(
                "TerminalAttached",
                format!("its container {} has a terminal (tty: true)", container.name),
            );
        }
        if container.stdin == Some(true) {
            return refused(
                "StdinOpen",
                format!("its container {} has an open stdin (stdin: true)", container.name),
            );
        }
        if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
            return refused(
                "BlockVolume",
                format!("its container {} has a raw block volume", container.name),
            );
        }
    }
    spec.volumes.iter().flatten().find_map(by_volume)
}

fn by_volume(volume: &Volume) -> Option<Refusal> {
    if let Some(path) = &volume.host_path {
        let what =
            format!("its volume {} is the folder {} of its node, which stays there", volume.name, path.path);
        return refused("HostPathVolume", what);
    }
    if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        let what = format!("its volume {} is a claim, and Pods with claims can't be moved yet", volume.name);
        return refused("VolumeNotSupported", what);
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn running() -> Value {
        json!({"metadata": {"name": "p", "labels": {}},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Running", "containerStatuses": [
                {"name": "main", "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "state": {"running": {}}}]}})
    }

    fn reason(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut pod = running();
        change(&mut pod);
        refusal(&serde_json::from_value(pod).unwrap(), "mine").map(|refusal| refusal.reason)
    }

    #[test]
    fn a_plain_running_pod_may_move() {
        assert_eq!(reason(|_| ()), None);
        assert_eq!(reason(|pod| pod["metadata"]["labels"][HANDOVER] = json!("mine")), None);
    }

    #[test]
    fn what_cannot_be_carried_is_refused_before_anything_is_touched() {
        let cases: [(&str, &str, Value); 9] = [
            ("MigrationForbidden", "/metadata/labels", json!({MIGRATE: "never"})),
            ("AlreadyMigrating", "/metadata/labels", json!({HANDOVER: "another"})),
            ("PodNotRunning", "/status/phase", json!("Pending")),
            ("PodNotRunning", "/status/containerStatuses/0/state", json!({"waiting": {}})),
            ("HostNamespace", "/spec", json!({"containers": [], "hostNetwork": true})),
            ("TerminalAttached", "/spec/containers/0", json!({"name": "main", "tty": true})),
            ("StdinOpen", "/spec/containers/0", json!({"name": "main", "stdin": true})),
            (
                "HostPathVolume",
                "/spec",
                json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": "/data"}}]}),
            ),
            (
                "VolumeNotSupported",
                "/spec",
                json!({"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}),
            ),
        ];
        for (expected, place, value) in cases {
            let found = reason(|pod| *pod.pointer_mut(place).unwrap() = value.clone());
            assert_eq!(found.as_deref(), Some(expected), "{place} = {value}");
        }
    }
}

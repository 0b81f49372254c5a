//! What can't be moved is refused while it runs, each by its own reason; whoever may not evict a Pod may not have it
//! moved.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use transship_lab::Lab;

use super::cluster::{Site, controller, counting, name, node_of, pod};
use crate::scenario::{Scenario, scenarios};

pub fn all() -> Vec<Scenario> {
    scenarios!("refusals":
        pods_that_are_bound_to_their_node,
        a_pod_whose_label_says_never,
        a_daemon_set_s_pod,
        a_stateful_set_s_pod,
        the_node_that_it_is_on_and_one_that_isn_t_there,
        a_dry_run_changes_nothing,
        a_user_who_may_not_evict_it,
    )
}

/// `pod` is refused for that reason, and runs on.
fn refused(site: &Site<'_>, pod: &Value, reason: &str) -> Result<()> {
    site.migrate(name(pod), node_of(pod)?.peer(), &[])?.refused_with(reason)?;
    let app = pod["metadata"]["labels"]["app"].as_str().unwrap_or_default();
    ensure!(site.pods(app)?.len() == 1, "a second Pod was made");
    site.counter(pod)?.runs_on()
}

fn pods_that_are_bound_to_their_node(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let mut host_path = counting();
    host_path["volumes"] = json!([{"name": "logs", "hostPath": {"path": "/var/log"}}]);
    host_path["containers"][0]["volumeMounts"] =
        json!([{"name": "logs", "mountPath": "/logs", "readOnly": true}]);
    let mut host_network = counting();
    host_network["hostNetwork"] = true.into();
    host_network["containers"][0]["args"] = json!(["--mib", "1", "--port", "8080"]);
    let mut terminal = counting();
    terminal["containers"][0]["tty"] = true.into();
    for (app, spec, reason) in [
        ("host-path", host_path, "HostPathVolume"),
        ("host-network", host_network, "HostNamespace"),
        ("terminal", terminal, "TerminalAttached"),
    ] {
        let pod = site.start(app, &pod(app, spec))?;
        refused(&site, &pod, reason)?;
    }
    Ok(())
}

fn a_pod_whose_label_says_never(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let mut object = pod("settled", counting());
    object["metadata"]["labels"]["transship.io/migrate"] = "never".into();
    let pod = site.start("settled", &object)?;
    refused(&site, &pod, "MigrationForbidden")
}

fn a_daemon_set_s_pod(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let mut object = controller("apps/v1", "DaemonSet", "everywhere", counting());
    object["spec"]["replicas"] = Value::Null;
    object["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "a"});
    let pod = site.start("everywhere", &object)?;
    let refused = refused(&site, &pod, "DaemonSetPod");
    site.cluster.kubectl(&["delete", "daemonset", "everywhere"])?;
    refused
}

fn a_stateful_set_s_pod(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let pod = site.start("db", &controller("apps/v1", "StatefulSet", "db", counting()))?;
    refused(&site, &pod, "OwnerNotSupported")
}

fn the_node_that_it_is_on_and_one_that_isn_t_there(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let pod = site.start("bare", &pod("bare", counting()))?;
    site.migrate("bare", node_of(&pod)?, &[])?.refused_with("SameNode")?;
    let call = ["migrate", "pod", "bare", "--to", "nowhere", "--wait", "--output=json"];
    let answer = site.cluster.command("kubectl")?.args(call).output()?;
    let object: Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(answer.status.code() == Some(3) && object["status"]["reason"] == "NodeNotFound", "{object}");
    site.counter(&pod)?.runs_on()
}

fn a_dry_run_changes_nothing(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let pod = site.start("bare", &pod("bare", counting()))?;
    site.migrate("bare", node_of(&pod)?.peer(), &["--dry-run"])?.succeeded()?;
    ensure!(site.pods("bare")?.len() == 1, "a second Pod was made");
    let now = site.get("pod", "bare")?;
    ensure!(now["metadata"]["labels"] == pod["metadata"]["labels"], "{}", now["metadata"]);
    site.counter(&pod)?.runs_on()
}

fn a_user_who_may_not_evict_it(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let pod = site.start("bare", &pod("bare", counting()))?;
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "mover"},
        "rules": [{"apiGroups": ["transship.io"], "resources": ["podmigrations"], "verbs": ["create", "get", "list", "watch"]}],
    });
    site.cluster.apply(&rights.to_string())?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "mover"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mover"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mover"}],
    });
    site.cluster.apply(&binding.to_string())?;
    let wish = json!({
        "apiVersion": "transship.io/v1alpha1", "kind": "PodMigration", "metadata": {"name": "wish", "namespace": "default"},
        "spec": {"podRef": {"name": "bare"}},
    });
    let mut create = site.cluster.command("kubectl")?;
    create.args(["create", "--as=mover", "--filename=-"]);
    let refused = transship_lab::output_with_input(&mut create, &wish.to_string());
    let said = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(said.contains("must be allowed to evict it"), "not refused for that: {said}");
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "mover"},
        "rules": [
            {"apiGroups": ["transship.io"], "resources": ["podmigrations"], "verbs": ["create", "get", "list", "watch"]},
            {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
        ],
    });
    site.cluster.apply(&rights.to_string())?;
    // Rights are cached by the API server for some seconds.
    transship_lab::until("the new right", crate::evidence::PATIENCE, || {
        let mut dry = site.cluster.command("kubectl")?;
        dry.args(["create", "--as=mover", "--dry-run=server", "--filename=-"]);
        Ok(transship_lab::output_with_input(&mut dry, &wish.to_string()).ok())
    })?;
    site.cluster.kubectl(&["delete", "role,rolebinding", "mover"])?;
    site.counter(&pod)?.runs_on()
}

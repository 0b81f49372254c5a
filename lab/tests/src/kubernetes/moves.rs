//! Pods of every owner move with their state, and their controllers do nothing about it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use transship_lab::{Lab, Load, NodeName, until};

use super::cluster::{Site, controller, counting, name, node_of, pod};
use crate::evidence::{PATIENCE, Pair};
use crate::scenario::{Scenario, scenarios};

pub fn all() -> Vec<Scenario> {
    scenarios!("moves":
        a_bare_pod_goes_there_and_back,
        a_deployment_s_pod_goes_while_a_client_asks_it,
        a_job_s_pod_isn_t_counted_as_failed,
        a_pod_with_volumes_of_every_portable_kind,
        two_containers_that_talk_to_each_other_go_as_one,
        five_at_once_go_by_turns,
    )
}

fn a_bare_pod_goes_there_and_back(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let mut pod = site.start("bare", &pod("bare", counting()))?;
    for _ in 0..2 {
        let counted = site.counter(&pod)?.count()?;
        let to = node_of(&pod)?.peer();
        let target = site.migrate(name(&pod), to, &[])?.succeeded()?;
        pod = site.ready("bare")?;
        ensure!(name(&pod) == target && node_of(&pod)? == to, "{pod}");
        let counter = site.counter(&pod)?;
        ensure!(counter.count()? >= counted, "it has forgotten what it had counted");
        counter.runs_on()?;
    }
    Ok(())
}

fn a_deployment_s_pod_goes_while_a_client_asks_it(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080}]},
    });
    site.cluster.apply(&service.to_string())?;
    let pod = site.start("web", &controller("apps/v1", "Deployment", "web", counting()))?;
    let address: IpAddr =
        site.get("service", "web")?["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
    let load = Load::start(lab.client(), SocketAddr::new(address, 8080), Duration::from_millis(10))?;
    let moved = site.migrate(name(&pod), node_of(&pod)?.peer(), &[]);
    let after = site.ready("web")?;
    let counter = site.counter(&after)?;
    counter.runs_on()?;
    let target = moved?.succeeded()?;
    // From the first answer of the new endpoint on, none fails.
    let follows = until("an answer of the Service", PATIENCE, || {
        let seen = load.so_far();
        Ok((seen.failed_last == 0).then_some(seen))
    })?;
    until("a hundred requests more", PATIENCE, || {
        Ok((load.so_far().sent >= follows.sent + 100).then_some(()))
    })?;
    let requests = load.finish()?;
    ensure!(requests.failed == follows.failed, "first {follows:?}, then {requests:?}");
    ensure!(name(&after) == target, "{target} is not the one that is left: {after}");
    ensure!(requests.went_back == 0, "{requests:?}");
    let set = after["metadata"]["ownerReferences"][0]["name"].as_str().context("nobody owns the Pod")?;
    let set = site.get("replicaset", set)?;
    ensure!(set["status"]["replicas"] == 1 && set["status"]["readyReplicas"] == 1, "{}", set["status"]);
    // One made anew would have begun to count again.
    ensure!(counter.count()? > 0 && after["status"]["containerStatuses"][0]["restartCount"] == 0, "{after}");
    Ok(())
}

fn a_job_s_pod_isn_t_counted_as_failed(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let mut spec = counting();
    spec["restartPolicy"] = "Never".into();
    let pod = site.start("work", &controller("batch/v1", "Job", "work", spec))?;
    let counted = site.counter(&pod)?.count()?;
    site.migrate(name(&pod), node_of(&pod)?.peer(), &[])?.succeeded()?;
    let after = site.ready("work")?;
    let counter = site.counter(&after)?;
    ensure!(counter.count()? >= counted, "it has forgotten what it had counted");
    counter.runs_on()?;
    let status = until("one active Pod of the Job", PATIENCE, || {
        let status = site.get("job", "work").map(|job| job["status"].clone()).unwrap_or_default();
        Ok((status["active"] == 1).then_some(status))
    })?;
    ensure!(status["failed"].is_null() || status["failed"] == 0, "{status}");
    ensure!(after["metadata"]["ownerReferences"][0]["kind"] == "Job", "nobody owns {after}");
    Ok(())
}

fn a_pod_with_volumes_of_every_portable_kind(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"key": "value"}});
    site.cluster.apply(&config.to_string())?;
    let mut spec = counting();
    spec["volumes"] = json!([
        {"name": "state", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "config"}},
        {"name": "names", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]);
    spec["containers"][0]["volumeMounts"] = json!([
        {"name": "state", "mountPath": "/data"},
        {"name": "config", "mountPath": "/config", "readOnly": true},
        {"name": "names", "mountPath": "/names"},
    ]);
    let pod = site.start("volumes", &pod("volumes", spec))?;
    let counted = site.counter(&pod)?.count()?;
    site.migrate(name(&pod), node_of(&pod)?.peer(), &[])?.succeeded()?;
    let counter = site.counter(&site.ready("volumes")?)?;
    ensure!(counter.count()? >= counted, "it has forgotten what it had counted");
    // Every line of its file, which lies in the emptyDir.
    counter.runs_on()?;
    site.cluster.kubectl(&["delete", "configmap", "config"])?;
    Ok(())
}

fn two_containers_that_talk_to_each_other_go_as_one(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let container = |role: &str| {
        json!({
            "name": role,
            "image": "localhost/pair:lab",
            "imagePullPolicy": "Never",
            "args": ["--role", role],
            "volumeMounts": [{"name": "both", "mountPath": "/both"}],
        })
    };
    let spec = json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [container("keeper"), container("teller")],
        "volumes": [{"name": "both", "emptyDir": {"medium": "Memory"}}],
    });
    let mut pod = site.start("pair", &pod("pair", spec))?;
    let address = |pod: &serde_json::Value| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    for _ in 0..2 {
        let counted = Pair::started(lab, name(&pod), &address(&pod))?.count()?;
        site.migrate(name(&pod), node_of(&pod)?.peer(), &[])?.succeeded()?;
        pod = site.ready("pair")?;
        let pair = Pair::started(lab, name(&pod), &address(&pod))?;
        ensure!(pair.count()? >= counted, "they have forgotten what they had counted");
        pair.runs_on()?;
    }
    Ok(())
}

/// As at a drain: two may leave a node at once, the others are told which limit they wait for.
fn five_at_once_go_by_turns(lab: &Lab) -> Result<()> {
    let site = Site::of(lab)?;
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        let mut spec = counting();
        spec["nodeName"] = NodeName::A.as_str().into();
        site.cluster.apply(&pod(name, spec).to_string())?;
    }
    let mut counted = vec![];
    for name in names {
        counted.push(site.counter(&site.ready(name)?)?.count()?);
    }
    let mut underway = vec![];
    for name in names {
        underway.push(site.begin(name, NodeName::B, &[])?);
    }
    let told = until("a migration that waits for its turn", PATIENCE, || {
        let queued = "{.items[*].status.conditions[?(@.type==\"Queued\")].message}";
        let told = site.cluster.kubectl(&["get", "podmigrations", &format!("--output=jsonpath={queued}")])?;
        Ok(told.contains("2 of 2").then_some(told))
    });
    for (name, underway) in names.into_iter().zip(underway) {
        underway.finish()?.succeeded().with_context(|| format!("the move of {name}"))?;
    }
    told?;
    for (name, counted) in names.into_iter().zip(counted) {
        let pod = site.ready(name)?;
        ensure!(node_of(&pod)? == NodeName::B, "{name} is on {}", node_of(&pod)?);
        ensure!(site.counter(&pod)?.count()? >= counted, "{name} has forgotten what it had counted");
    }
    Ok(())
}

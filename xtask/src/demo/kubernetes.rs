//! `cargo xtask demo --kubernetes`: a Deployment's Pod moves between real kubelets, under a client's requests.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use transship_lab::{Cluster, Kubernetes, Lab, LabGuard, LabOptions, Load, NodeName, Requests, until};

use super::evidence::{self, Count, Evidence};
use super::{Bytes, say};
use crate::build;

const LAB: &str = "demo-kubernetes";
/// The Deployment and its Service; the Pod holds 64 MiB and counts every 10 ms.
const WEB: &str = include_str!("web.yaml");
/// Between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(10);

/// What `--json` writes.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// It moved, nothing was lost, and the client is answered.
    pub ok: bool,
    freeze_ms: f64,
    phases_ms: Map<String, Value>,
    bytes: Bytes,
    /// Missing when it did not move.
    workload: Option<Evidence>,
    requests: Requests,
    /// From the call to its answer.
    total_ms: f64,
}

/// What is used of a `PodMigration`.
#[derive(Debug, Deserialize)]
struct Migration {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    freeze_duration: Option<SignedDuration>,
    phase_durations: std::collections::BTreeMap<String, SignedDuration>,
    bytes: Bytes,
    target: Target,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Target {
    pod_name: String,
}

pub fn run() -> Result<Outcome> {
    say("building transship and its test programs");
    let programs = build::programs()?;
    let begun = Instant::now();
    let options = LabOptions { cluster: Cluster::Kubernetes, ..LabOptions::new(LAB, programs) };
    let lab = LabGuard::up(&options)?;
    let cluster = lab.kubernetes()?;
    cluster.await_ready()?;
    say(&format!(
        "a cluster is up: API server, scheduler, controllers, kubelets on a and b ({:.1} s)",
        begun.elapsed().as_secs_f64()
    ));
    cluster.install_coordinator(&build::workspace().join("deploy"))?;
    say("transship is installed: an agent on each node, the coordinator, `kubectl migrate`");

    cluster.apply(WEB)?;
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let pod = one(&cluster, "pods", "{.items[0].metadata.name}")?;
    let node: NodeName = one(&cluster, "pods", "{.items[0].spec.nodeName}")?.parse()?;
    let address: IpAddr = one(&cluster, "services", "{.items[0].spec.clusterIP}")?.parse()?;
    say(&format!("Pod {pod} runs on {node}, with 64 MiB of memory and a file, behind the Service web"));

    let load = Load::start(lab.client(), SocketAddr::new(address, 8080), PAUSE)?;
    let to = node.peer();
    say(&format!("a client asks it all the time; kubectl migrate pod {pod} --to {to} --wait"));
    let begun = Instant::now();
    let migration = migrate(&cluster, &pod, to)?;
    let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let status = &migration.status;
    let counts = if status.phase == "Succeeded" { Some(counts(&lab, &cluster, status, to)?) } else { None };
    // The endpoints may follow a moment after the Pod.
    until("an answer of the Service", Duration::from_secs(30), || {
        Ok((load.so_far().failed_last == 0).then_some(()))
    })?;
    let requests = load.finish()?;

    println!("\n{}", cluster.kubectl(&["migrate", "describe", &migration.metadata.name])?);
    println!("{}", cluster.kubectl(&["get", "pods", "-o", "wide"])?);
    let workload = counts.as_deref().map(Evidence::of_one).transpose()?;
    match &workload {
        Some(evidence) => println!("what the Pod's own file says: {evidence}"),
        None => println!("the coordinator's log:\n{}", cluster.coordinator_log()?),
    }
    println!(
        "{} requests by a client: {} failed, longest time between two answers {} ms",
        requests.sent, requests.failed, requests.longest_gap_ms
    );
    let seamless = workload.as_ref().is_some_and(Evidence::is_seamless);
    Ok(Outcome {
        ok: seamless && requests.went_back == 0,
        freeze_ms: ms(status.freeze_duration.unwrap_or_default()),
        phases_ms: status
            .phase_durations
            .iter()
            .map(|(name, took)| (name.clone(), ms(*took).into()))
            .collect(),
        bytes: status.bytes,
        workload,
        requests,
        total_ms,
    })
}

fn ms(span: SignedDuration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// One field of the demo's only object of that kind.
fn one(cluster: &Kubernetes<'_>, kind: &str, field: &str) -> Result<String> {
    Ok(cluster.kubectl(&["get", kind, "--selector=app=web", "--output", &format!("jsonpath={field}")])?)
}

/// Asks for the move as a person does; what it says of its progress is seen.
fn migrate(cluster: &Kubernetes<'_>, pod: &str, to: NodeName) -> Result<Migration> {
    let mut kubectl = cluster.command("kubectl")?;
    kubectl.args(["migrate", "pod", pod, "--to", to.as_str(), "--wait", "--output", "json"]);
    let out = kubectl.stderr(Stdio::inherit()).output().context("start kubectl migrate")?;
    serde_json::from_slice(&out.stdout)
        .with_context(|| format!("understand what kubectl migrate said ({})", out.status))
}

/// What the moved Pod has written into its file, here and there.
fn counts(lab: &Lab, cluster: &Kubernetes<'_>, status: &Status, node: NodeName) -> Result<Vec<Count>> {
    let field = "jsonpath={.status.containerStatuses[0].containerID}";
    let id = cluster.kubectl(&["get", "pod", &status.target.pod_name, "--output", field])?;
    let id = id.rsplit('/').next().unwrap_or_default();
    let file = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/rootfs/data/count");
    let path = lab.node(node).path(&file)?;
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.lines().filter_map(evidence::count).collect())
}

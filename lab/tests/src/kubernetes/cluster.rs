//! What scenarios do with a cluster, as its users do: objects applied, `kubectl migrate` called, Pods looked at.

use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use transship_lab::{Kubernetes, Lab, NodeName, until};

use crate::evidence::{Counter, PATIENCE};

/// A cluster, and the lab that it is in.
pub struct Site<'a> {
    pub lab: &'a Lab,
    pub cluster: Kubernetes<'a>,
}

/// What `kubectl migrate pod` has answered.
#[derive(Debug)]
pub struct Answer {
    exit: Option<i32>,
    /// The `PodMigration` at its end.
    object: Value,
    said: String,
}

/// A Pod's specification with one container that counts in memory and in a file.
pub fn counting() -> Value {
    json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "main",
            "image": "localhost/counter:lab",
            "imagePullPolicy": "Never",
            "args": ["--mib", "16", "--interval-ms", "10"],
        }],
    })
}

/// A bare Pod.
pub fn pod(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

/// A controller with one such Pod.
pub fn controller(api: &str, kind: &str, name: &str, spec: Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": spec});
    let spec = match kind {
        "Job" => json!({"backoffLimit": 0, "template": template}),
        _ => json!({"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}),
    };
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

impl<'a> Site<'a> {
    pub fn of(lab: &'a Lab) -> Result<Self> {
        Ok(Site { lab, cluster: lab.kubernetes()? })
    }

    /// An object as the API server has it.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.cluster.kubectl(&["get", kind, name, "--output=json"])?)?)
    }

    /// All Pods of an app that aren't on their way out.
    pub fn pods(&self, app: &str) -> Result<Vec<Value>> {
        let call = ["get", "pods", &format!("--selector=app={app}"), "--output=json"];
        let list: Value = serde_json::from_str(&self.cluster.kubectl(&call)?)?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect())
    }

    /// Applies an object and waits until the one Pod of that app is ready.
    pub fn start(&self, app: &str, object: &Value) -> Result<Value> {
        self.cluster.apply(&object.to_string())?;
        self.ready(app)
    }

    /// Waits until there is exactly one Pod of that app and it is ready.
    pub fn ready(&self, app: &str) -> Result<Value> {
        let mut seen = vec![];
        let waited = until(&format!("one ready Pod of {app}"), PATIENCE * 2, || {
            seen = self.pods(app).unwrap_or_default();
            Ok(match seen.as_slice() {
                [pod] if is_ready(pod) => Some(pod.clone()),
                _ => None,
            })
        });
        waited.with_context(|| format!("there are {}", names(&seen)))
    }

    /// The counter in a Pod.
    pub fn counter(&self, pod: &Value) -> Result<Counter<'a>> {
        Counter::started(self.lab, name(pod), pod["status"]["podIP"].as_str().unwrap_or_default())
    }

    /// `kubectl migrate pod POD --to NODE`, with these more arguments, to its end.
    pub fn migrate(&self, pod: &str, to: NodeName, more: &[&str]) -> Result<Answer> {
        self.begin(pod, to, more)?.finish()
    }

    /// The same, under way.
    pub fn begin(&self, pod: &str, to: NodeName, more: &[&str]) -> Result<Underway> {
        let mut kubectl = self.cluster.command("kubectl")?;
        kubectl.args([
            "migrate",
            "pod",
            pod,
            "--to",
            to.as_str(),
            "--wait",
            "--timeout=90s",
            "--output=json",
        ]);
        kubectl.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Underway(kubectl.spawn().context("start kubectl migrate")?))
    }

    /// The only `PodMigration`, when there is one.
    pub fn migration(&self) -> Result<Value> {
        Ok(until("a PodMigration", PATIENCE, || {
            let list = self.cluster.kubectl(&["get", "podmigrations", "--output=json"])?;
            let list: Value = serde_json::from_str(&list).map_err(std::io::Error::from).unwrap_or_default();
            Ok(list["items"].get(0).cloned())
        })?)
    }
}

/// `kubectl migrate` that waits for the end.
#[derive(Debug)]
pub struct Underway(Child);

impl Underway {
    pub fn finish(self) -> Result<Answer> {
        Answer::read(&self.0.wait_with_output().context("wait for kubectl migrate")?)
    }
}

impl Answer {
    fn read(output: &Output) -> Result<Self> {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // An object that was refused is none.
        let object = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(Answer { exit: output.status.code(), object, said })
    }

    /// It says that the Pod has moved; the new Pod's name.
    pub fn succeeded(&self) -> Result<String> {
        let status = &self.object["status"];
        ensure!(self.exit == Some(0), "exit code {:?}: {} {}", self.exit, status, self.said);
        ensure!(status["phase"] == "Succeeded", "{status}");
        Ok(status["target"]["podName"].as_str().unwrap_or_default().to_owned())
    }

    /// It says that nothing was touched, for that reason.
    pub fn refused_with(&self, reason: &str) -> Result<()> {
        let status = &self.object["status"];
        ensure!(
            self.exit == Some(3) && status["reason"] == reason && status["freezeDuration"].is_null(),
            "not refused for {reason}: exit code {:?}, {status} {}",
            self.exit,
            self.said
        );
        ensure!(!status["message"].as_str().unwrap_or_default().is_empty(), "{reason} comes without a word");
        Ok(())
    }

    /// It says that the Pod runs on where it was, for one of these reasons.
    pub fn failed_with(&self, reasons: &[&str]) -> Result<()> {
        let status = &self.object["status"];
        let reason = status["reason"].as_str().unwrap_or_default();
        ensure!(
            self.exit == Some(1) && reasons.contains(&reason),
            "not failed for {reasons:?}: exit code {:?}, {status} {}",
            self.exit,
            self.said
        );
        Ok(())
    }
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The node that a Pod is on.
pub fn node_of(pod: &Value) -> Result<NodeName> {
    Ok(pod["spec"]["nodeName"].as_str().unwrap_or_default().parse()?)
}

pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn names(pods: &[Value]) -> String {
    let line = |pod: &Value| format!("{} ({}, ready: {})", name(pod), pod["status"]["phase"], is_ready(pod));
    if pods.is_empty() { "none".into() } else { pods.iter().map(line).collect::<Vec<_>>().join(", ") }
}

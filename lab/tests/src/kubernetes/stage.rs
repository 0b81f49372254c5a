//! The cluster that the scenarios share.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use libtest_mimic::{Completion, Failed, Trial};
use transship_lab::{Cluster, Lab, LabError, LabGuard, LabOptions};

use crate::node;
use crate::scenario::Scenario;

/// What scenarios make, and what transship makes for them.
const KINDS: &str =
    "podmigrations,deployments,statefulsets,jobs,replicasets,pods,services,poddisruptionbudgets";

/// A cluster that comes up for the first scenario that wants it.
#[derive(Default)]
pub struct Stage {
    set: Mutex<Option<LabGuard>>,
}

/// Why there is no cluster.
enum NoCluster {
    /// This machine can't have one.
    Impossible(String),
    Failed(anyhow::Error),
}

impl From<LabError> for NoCluster {
    fn from(error: LabError) -> Self {
        match error {
            LabError::Machine { .. } => NoCluster::Impossible(error.to_string()),
            other => NoCluster::Failed(other.into()),
        }
    }
}

impl Stage {
    /// The scenario as a test of libtest's.
    pub fn trial(self: &Arc<Self>, scenario: Scenario) -> Trial {
        let stage = Arc::clone(self);
        let name = format!("kubernetes::{}", scenario.name);
        Trial::ignorable_test(name, move || stage.play(&scenario))
    }

    fn play(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let mut shared = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: a scenario that fails or panics leaves its cluster to nobody.
        let lab = match shared.take().map_or_else(bring_up, Ok) {
            Ok(lab) => lab,
            Err(NoCluster::Impossible(why)) => return Ok(Completion::ignored_with(why)),
            Err(NoCluster::Failed(error)) => return Err(format!("{error:#}").into()),
        };
        match (scenario.play)(&lab).and_then(|()| strike(&lab)) {
            Ok(()) => {
                *shared = Some(lab);
                Ok(Completion::Completed)
            }
            Err(error) => Err(format!("{error:#}\n{}", logs(&lab)).into()),
        }
    }
}

fn bring_up() -> Result<LabGuard, NoCluster> {
    let options = LabOptions { cluster: Cluster::Kubernetes, ..LabOptions::from_env("tests-kubernetes")? };
    let lab = LabGuard::up(&options)?;
    let cluster = lab.kubernetes()?;
    cluster.await_ready()?;
    cluster.install_coordinator(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy"))?;
    Ok(lab)
}

/// Clears the cluster for the next scenario; fails if a node keeps anything of a migration.
fn strike(lab: &Lab) -> Result<()> {
    let cluster = lab.kubernetes()?;
    cluster.start_coordinator()?;
    for node in lab.nodes() {
        node::agent_without_faults(node)?;
    }
    cluster.kubectl(&["delete", KINDS, "--all", "--wait", "--timeout=90s"])?;
    for node in lab.nodes() {
        let left = node::unfinished(node)?;
        ensure!(left.is_empty(), "node {} has migrations that aren't over: {left:?}", node.name());
        let markers =
            node.run(&["sh", "-c", "cd /var/lib/transship && ls fences expected 2>/dev/null || true"])?;
        let markers: Vec<_> =
            markers.lines().filter(|line| !line.is_empty() && !line.ends_with(':')).collect();
        ensure!(markers.is_empty(), "node {} keeps markers of {markers:?}", node.name());
    }
    Ok(())
}

/// The ends of the logs, and what the cluster has, for a person who looks for the reason.
fn logs(lab: &Lab) -> String {
    let mut text = String::new();
    let mut add = |what: &str, log: Result<String, LabError>| {
        let log = log.unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        text += &format!("{what}:\n{}\n", tail.join("\n"));
    };
    for node in lab.nodes() {
        add(&format!("last lines of the agent's log on node {}", node.name()), node.agent_log());
    }
    if let Ok(cluster) = lab.kubernetes() {
        add("last lines of the coordinator's log", cluster.coordinator_log());
        add("the cluster's objects", cluster.kubectl(&["get", "pods,podmigrations", "--output=wide"]));
        add("its events", cluster.kubectl(&["get", "events", "--sort-by=.lastTimestamp"]));
    }
    text
}

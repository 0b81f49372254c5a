//! The process outside the agent that thaws a workload if the agent can't, and calls for help if the agent is gone.

use std::ffi::{OsStr, OsString};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use transship_decision::MigrationId;
use transship_proto::{Fault, Reason};

use crate::host::{failed, host_cgroup};
use crate::node::Node;
use crate::plan::Side;

/// How long it may take to say that it is armed.
const ARMED: Duration = Duration::from_secs(5);
/// How long it may take to end when nothing is left to watch.
const ENDS: Duration = Duration::from_secs(5);

/// A watchdog that is armed. Dropping it leaves it at its post.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Starts one for this end of a migration, in a host cgroup of its own, and waits until it is armed.
    pub async fn start(node: &Node, migration: &MigrationId, side: Side<'_>) -> Result<Self, Fault> {
        let program = node.config.watchdog_program();
        let mut child = Command::new(&program)
            .args(arguments(node, migration, side))
            .env_remove("TRANSSHIP_FAULTS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A signal to the agent's group is none to the watchdog.
            .process_group(0)
            .spawn()
            .map_err(failed(format_args!("starting {}", program.display())))?;
        let died = || {
            Fault::new(
                Reason::HostError,
                "the watchdog ended before it was armed; the agent's log has its own message",
            )
        };
        let own = host_cgroup(migration, "watchdog")?;
        own.add(child.id().ok_or_else(died)?)
            .map_err(|error| Fault::new(Reason::HostError, format!("the watchdog's cgroup: {error}")))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(died)?).lines();
        let armed = tokio::time::timeout(ARMED, lines.next_line()).await.map_err(|_| died())?;
        match armed.map_err(failed("listening to the watchdog"))?.as_deref() {
            Some("ready") => Ok(Self(child)),
            _ => Err(died()),
        }
    }

    /// Waits for its end, which the migration's own end brings about.
    pub async fn ended(mut self) -> Result<(), Fault> {
        match tokio::time::timeout(ENDS, self.0.wait()).await {
            Ok(ended) => ended.map(drop).map_err(failed("waiting for the watchdog")),
            Err(_) => self.0.kill().await.map_err(failed("ending the watchdog")),
        }
    }
}

fn arguments(node: &Node, migration: &MigrationId, side: Side<'_>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: &dyn AsRef<OsStr>| {
        arguments.push(flag.into());
        arguments.push(value.as_ref().to_owned());
    };
    add("--state", &node.config.state);
    add("--migration", &migration.as_str());
    add("--agent-pid", &std::process::id().to_string());
    match side {
        Side::Source { plan, capture } => {
            add("--side", &"source");
            add("--pod-uid", &plan.pod_uid.as_str());
            add("--budget-ms", &plan.budget_ms.to_string());
            for container in &plan.containers {
                add("--cgroup", &container.cgroup);
            }
            add("--capture-cgroup", &capture);
        }
        Side::Target(plan) => {
            add("--side", &"target");
            add("--pod-uid", &plan.pod_uid.as_str());
        }
    }
    let myself = std::env::current_exe().unwrap_or_else(|_| "transship".into());
    arguments.push("--recover".into());
    arguments.push(myself.into_os_string());
    arguments.push("recover".into());
    arguments.push(format!("--migration={migration}").into());
    arguments.extend(node.config.to_arguments().into_iter().map(OsString::from));
    arguments
}

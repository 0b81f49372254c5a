//! What stands beside a freeze: the watchdog outside the agent, the fence, and the alarms within.

use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;
use transship_decision::Marker;
use transship_freezer::HostCgroup;
use transship_proto::{Fault, Reason};

use super::drive::Migration;
use crate::host::{Exit, host_cgroup};
use crate::plan::Side;
use crate::watchdog::Watchdog;

/// How long the last helpers may take to end.
const ENDS: Duration = Duration::from_secs(5);

/// A running watchdog, and what else ends a freeze.
#[derive(Debug)]
pub struct Guard {
    watchdog: Watchdog,
    watch: Watch,
}

/// What to look out for while the workload stands still.
#[derive(Debug, Clone)]
pub struct Watch {
    until: Instant,
    processes: Vec<Exit>,
}

/// What ends a freeze from outside.
#[derive(Debug)]
pub enum Alarm {
    /// It lasted as long as it may.
    BudgetOver(Fault),
    /// The first process of a frozen container has been killed.
    ProcessGone(Fault),
}

impl Guard {
    /// What to look out for.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Whether a container's first process has ended.
    pub fn has_lost_one(&self) -> bool {
        self.watch.processes.iter().any(Exit::has_come)
    }

    /// Waits for the watchdog's end, which the migration's own end brings about.
    pub async fn ended(self) -> Result<(), Fault> {
        self.watchdog.ended().await
    }
}

impl Watch {
    /// The first alarm.
    pub async fn first(self) -> Alarm {
        tokio::select! {
            () = tokio::time::sleep_until(self.until) => Alarm::BudgetOver(Fault::new(
                Reason::FreezeBudgetExceeded,
                "the workload stood still as long as it may, and runs on; give it a larger freeze budget or move it when it is smaller",
            )),
            _ = select_all(self.processes.iter().map(|process| Box::pin(process.wait()))) => Alarm::ProcessGone(Fault::new(
                Reason::WorkloadEnded,
                "a container's first process ended while it was being captured; its own log or the kernel's may say why",
            )),
        }
    }
}

impl Migration {
    /// Starts the process that thaws the workload if this agent can't.
    pub(super) async fn start_watchdog(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?.clone();
        let processes =
            plan.containers.iter().map(|container| Exit::of(container.pid)).collect::<Result<_, _>>()?;
        let capture = self.capture_cgroup()?;
        let side = Side::Source { plan: &plan, capture: capture.cgroup().path() };
        let watchdog = Watchdog::start(&self.node, &self.id, side).await?;
        let until = Instant::now() + Duration::from_millis(plan.budget_ms.into());
        self.guard = Some(Guard { watchdog, watch: Watch { until, processes } });
        Ok(())
    }

    /// From here on nothing of this Pod is started on this node until the migration is known to be kept.
    pub(super) fn raise_fence(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let raised = self.node.state.raise(Marker::Fence, &plan.pod_uid, &self.id);
        raised.map_err(|error| Fault::new(Reason::HostError, error.to_string()))
    }

    /// The host cgroup in which CRIU works on this migration's dump.
    pub(super) fn capture_cgroup(&self) -> Result<HostCgroup, Fault> {
        host_cgroup(&self.id, "capture")
    }

    /// Removes the migration's host cgroups. Whoever is still in one ends first.
    pub(super) fn remove_cgroups(&self) -> Result<(), Fault> {
        for kind in ["capture", "watchdog"] {
            let cgroup = host_cgroup(&self.id, kind)?;
            let ended = cgroup.cgroup().wait_empty(ENDS);
            ended.map_err(|error| {
                Fault::new(Reason::HostError, format!("the cgroup of the {kind}: {error}"))
            })?;
            cgroup.remove().map_err(|error| {
                Fault::new(Reason::HostError, format!("the cgroup of the {kind}: {error}"))
            })?;
        }
        Ok(())
    }
}

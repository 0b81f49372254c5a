//! Everything of the workload stops at once.

use std::time::{Duration, Instant};

use transship_freezer::{Cgroup, FreezeError};
use transship_proto::{Fault, Reason};

use super::drive::Migration;
use super::plan::Leaving;
use crate::host::{blocking, process};

/// How long the freezer may take, for all containers together.
const FREEZE: Duration = Duration::from_secs(2);

impl Migration {
    /// Freezes every container, and looks for what came in since the preflight. Nothing is captured before all stand
    /// still: what one has sent by then, the kernel holds for the other.
    pub(super) async fn freeze(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let within = FREEZE.min(Duration::from_millis(plan.budget_ms.into()));
        let cgroups = plan.containers.iter().map(Leaving::cgroup).collect::<Result<Vec<_>, _>>()?;
        if plan.paused_by_runtime {
            for container in &plan.containers {
                // Its own checkpoint of a container that it thinks is running would pause it again, and fail.
                self.node.cri.pause(container.container_id.as_str()).await?;
            }
        }
        let ends = Instant::now() + within;
        let freezing = cgroups.clone();
        blocking(move || {
            let left = || ends.saturating_duration_since(Instant::now());
            freezing.iter().try_for_each(|cgroup| cgroup.freeze(left()).map_err(frozen_not))
        })
        .await?;
        plan.containers
            .iter()
            .zip(&cgroups)
            .try_for_each(|(container, cgroup)| nothing_new(container, cgroup))
    }
}

fn nothing_new(container: &Leaving, cgroup: &Cgroup) -> Result<(), Fault> {
    let unreadable = |why: String| Fault::new(Reason::HostError, why);
    let pids = cgroup.processes().map_err(|error| unreadable(error.to_string()))?;
    let groups = process::look(pids).map_err(|error| unreadable(error.to_string()))?;
    match process::outside_tree(&groups, container.pid).first() {
        None => Ok(()),
        Some(exec) => {
            let what = format!(
                "process {} ({}) was brought in by an exec just now; try again when it has ended",
                exec.pid, exec.name
            );
            Err(Fault::new(Reason::ExecSession, what))
        }
    }
}

fn frozen_not(error: FreezeError) -> Fault {
    let reason = match error {
        FreezeError::FreezeTimedOut { .. } => Reason::FreezeTimedOut,
        FreezeError::Gone(_) => Reason::WorkloadEnded,
        _ => Reason::HostError,
    };
    Fault::new(reason, error.to_string())
}

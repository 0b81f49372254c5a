//! Everything of the workload stops at once.

use std::time::Duration;

use transship_freezer::FreezeError;
use transship_proto::{Fault, Reason};

use super::drive::Migration;
use crate::host::{blocking, process};

/// How long the freezer may take.
const FREEZE: Duration = Duration::from_secs(2);

impl Migration {
    /// Freezes the container, and looks for what came in since the preflight.
    pub(super) async fn freeze(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let (cgroup, within) = (plan.cgroup()?, FREEZE.min(Duration::from_millis(plan.budget_ms.into())));
        if plan.paused_by_runtime {
            // Its own checkpoint of a container that it thinks is running would pause it again, and fail.
            self.node.cri.pause(plan.container_id.as_str()).await?;
        }
        let freezing = cgroup.clone();
        blocking(move || freezing.freeze(within).map_err(frozen_not)).await?;

        let unreadable = |why: String| Fault::new(Reason::HostError, why);
        let pids = cgroup.processes().map_err(|error| unreadable(error.to_string()))?;
        let groups = process::look(pids).map_err(|error| unreadable(error.to_string()))?;
        match process::outside_tree(&groups, plan.pid).first() {
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
}

fn frozen_not(error: FreezeError) -> Fault {
    let reason = match error {
        FreezeError::FreezeTimedOut { .. } => Reason::FreezeTimedOut,
        FreezeError::Gone(_) => Reason::WorkloadEnded,
        _ => Reason::HostError,
    };
    Fault::new(reason, error.to_string())
}

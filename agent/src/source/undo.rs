//! After `kept`: the source runs on, and nothing of the migration is left on either node.

use std::time::Duration;

use transship_decision::{Marker, Verdict};
use transship_freezer::FreezeError;
use transship_proto::{Fault, Reason};

use super::carry::carry;
use super::drive::Migration;
use super::guard::Guard;
use crate::host::{blocking, remove_abandoned_folders, sweep};
use crate::plan::Owner;
use crate::pods;

/// How long a CRIU at work may take to end in order before it is killed: killing one may take its container along.
const ORDERLY: Duration = Duration::from_secs(1);
/// How long the target may take to discard its half.
const DISCARD: Duration = Duration::from_secs(20);
/// How long the freezer may take to let go.
const THAW: Duration = Duration::from_secs(2);

impl Migration {
    /// No CRIU works on the source any more.
    pub(super) async fn end_capture(&mut self) -> Result<(), Fault> {
        // What waits for its word ends without it.
        self.armed.clear();
        let cgroup = self.capture_cgroup()?;
        let ending = move || cgroup.cgroup().wait_empty(ORDERLY).or_else(|_| cgroup.kill(ORDERLY));
        blocking(move || {
            ending().map_err(|error| Fault::new(Reason::HostError, format!("CRIU can't be ended: {error}")))
        })
        .await
    }

    /// The source runs: every container of it, whatever becomes of another.
    pub(super) async fn thaw(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let mut thawed = Ok(());
        for container in &plan.containers {
            if plan.paused_by_runtime
                && let Err(fault) = self.node.cri.resume(container.container_id.as_str()).await
            {
                // It may not have come to the pause; what counts is the freezer, below.
                tracing::info!(migration = %self.id, %fault, "the runtime did not resume the container");
            }
            // Frozen by nobody, or by an agent before this one: either way it is to run now.
            let Ok(cgroup) = container.cgroup() else { continue };
            let id = container.container_id.clone();
            let one = blocking(move || match cgroup.thaw(THAW) {
                Ok(()) | Err(FreezeError::Gone(_)) => Ok(()),
                Err(error) => {
                    let what = format!("container {id} can't be thawed: {error}");
                    Err(Fault::new(Reason::HostError, what))
                }
            });
            thawed = thawed.and(one.await);
        }
        thawed?;
        self.events.runs_again();
        Ok(())
    }

    /// Nothing of CRIU's keeps packets from the source.
    pub(super) async fn sweep(&mut self) -> Result<(), Fault> {
        let network = &self.plan()?.network;
        if network.exists() { sweep(network).await } else { Ok(()) }
    }

    /// The source's Pod may start containers again. One that a kubelet has would, until it is gone and the migration
    /// forgotten, where it was released.
    pub(super) fn lower_fence(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        if plan.owner == Owner::Kubelet && self.machine.verdict() == Some(Verdict::Released) {
            return Ok(());
        }
        let lowered = self.node.state.lower(Marker::Fence, &plan.pod_uid, &self.id);
        lowered.map_err(|error| Fault::new(Reason::HostError, error.to_string()))
    }

    /// The target discards what it has, if it can be reached; else it asks by itself, later.
    pub(super) async fn discard(&mut self) -> Result<(), Fault> {
        // A transfer under way ends here.
        self.sender = None;
        let plan = self.plan()?;
        carry(&self.node, &self.id, &plan.target, self.connection.as_ref(), DISCARD).await.map(drop)
    }

    /// Nothing is left but the record.
    pub(super) async fn clean(&mut self) -> Result<(), Fault> {
        self.sender = None;
        self.taken_along = self.guard.as_ref().is_some_and(Guard::has_lost_one);
        let workspace =
            self.workspace.take().or_else(|| crate::host::Workspace::open(&self.node.run, &self.id));
        if let Some(workspace) = workspace {
            workspace.remove()?;
        }
        blocking(remove_abandoned_folders).await?;
        if self.plan()?.owner == Owner::Kubelet {
            // Before the mark: what is done isn't taken up again, and its coordinator may ask any time.
            self.outcome = Some(pods::keep(&self.node, &self.id, &self.outcome())?);
        }
        self.node
            .state
            .mark_done(&self.id)
            .map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        if let Some(guard) = self.guard.take() {
            guard.ended().await?;
        }
        self.remove_cgroups()
    }
}

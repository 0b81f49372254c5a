//! After `kept`: the source runs on, and nothing of the migration is left on either node.

use std::time::Duration;

use transship_decision::Marker;
use transship_freezer::FreezeError;
use transship_proto::{Fault, Reason};

use super::carry::carry;
use super::drive::Migration;
use crate::host::{blocking, remove_abandoned_folders, sweep};

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
        self.armed = None;
        let cgroup = self.capture_cgroup()?;
        let ending = move || cgroup.cgroup().wait_empty(ORDERLY).or_else(|_| cgroup.kill(ORDERLY));
        blocking(move || {
            ending().map_err(|error| Fault::new(Reason::HostError, format!("CRIU can't be ended: {error}")))
        })
        .await
    }

    /// The source runs.
    pub(super) async fn thaw(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        if plan.paused_by_runtime
            && let Err(fault) = self.node.cri.resume(plan.container_id.as_str()).await
        {
            // It may not have come to the pause; what counts is the freezer, below.
            tracing::info!(migration = %self.id, %fault, "the runtime did not resume the container");
        }
        // Frozen by nobody, or by an agent before this one: either way it is to run now.
        if let Ok(cgroup) = plan.cgroup() {
            let id = plan.container_id.clone();
            let thawing = move || match cgroup.thaw(THAW) {
                Err(FreezeError::Gone(_)) => Ok(()),
                other => other,
            };
            blocking(move || {
                thawing().map_err(|error| {
                    Fault::new(Reason::HostError, format!("container {id} can't be thawed: {error}"))
                })
            })
            .await?;
        }
        self.events.runs_again();
        Ok(())
    }

    /// Nothing of CRIU's keeps packets from the source.
    pub(super) async fn sweep(&mut self) -> Result<(), Fault> {
        let network = &self.plan()?.network;
        if network.exists() { sweep(network).await } else { Ok(()) }
    }

    /// The source's Pod may start containers again.
    pub(super) fn lower_fence(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
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
        let workspace =
            self.workspace.take().or_else(|| crate::host::Workspace::open(&self.node.run, &self.id));
        if let Some(workspace) = workspace {
            workspace.remove()?;
        }
        blocking(remove_abandoned_folders).await?;
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

//! After `released`: the target is let go, and what is left of the source ends without running.

use std::time::Duration;

use tracing::error;
use transship_decision::Failure;
use transship_decision::source::Outcome;
use transship_freezer::{Cgroup, KillError};
use transship_proto::{Fault, Reason};

use super::carry::{Taken, carry};
use super::decide::GO;
use super::drive::{Migration, failure};
use crate::host::{blocking, remove_empty_parent};
use crate::plan::Owner;

/// How long one try to reach the target may take after the first.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long killed processes may take to be gone.
const DEATH: Duration = Duration::from_secs(10);

impl Migration {
    /// Lets the target's copy run: one quick try, inside the freeze.
    pub(super) async fn go(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let taken = carry(&self.node, &self.id, &plan.target, self.connection.as_ref(), GO).await?;
        if taken == Taken::Unknown {
            return Err(Fault::new(
                Reason::TargetLost,
                format!("the target at {} doesn't know the migration", plan.target),
            ));
        }
        self.events.runs_again();
        Ok(())
    }

    /// Kills the frozen source: not one of its instructions runs any more.
    pub(super) async fn kill(&mut self) -> Result<(), Fault> {
        // Gone altogether is as good.
        let cgroups: Vec<Cgroup> =
            self.plan()?.containers.iter().filter_map(|container| container.cgroup().ok()).collect();
        // None waits for another: one whose tasks won't die is no reason for the others to live.
        blocking(move || cgroups.iter().map(kill_one).fold(Ok(()), Result::and)).await
    }

    /// Lets the target's copy run, if that isn't known to have happened.
    pub(super) async fn carry(&mut self) -> Outcome {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(fault) => return Outcome::Failed(failure(fault)),
        };
        if self.node.departures.is_followed(&self.id) {
            self.events.runs_again();
            return Outcome::Done;
        }
        // Dialled anew: the connection of before may be what is broken.
        match carry(&self.node, &self.id, &plan.target, None, PATIENCE).await {
            Ok(Taken::Done) => {
                self.events.runs_again();
                Outcome::Done
            }
            Ok(Taken::Unknown) => Outcome::Lost(Failure::new(
                Reason::TargetLost.as_ref(),
                format!(
                    "migration {} was released to {}, which doesn't know it any more; the container runs nowhere, start it anew",
                    self.id, plan.target
                ),
            )),
            Err(fault) => Outcome::Failed(failure(fault)),
        }
    }

    /// Removes the dead containers and their sandbox. A kubelet's are left to it.
    pub(super) async fn retire(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        if plan.owner == Owner::Kubelet {
            return Ok(());
        }
        self.node.cri.remove_sandbox(&plan.sandbox_id).await?;
        remove_empty_parent(&plan.cgroup_parent)
    }
}

fn kill_one(cgroup: &Cgroup) -> Result<(), Fault> {
    let killed = match cgroup.kill_frozen(DEATH) {
        Err(KillError::NotFrozen(path)) => {
            error!(cgroup = %path.display(), "the released source was not frozen; it is killed all the same");
            cgroup.kill(DEATH)
        }
        other => other,
    };
    killed.map_err(|error| {
        Fault::new(Reason::HostError, format!("the released source can't be killed: {error}"))
    })
}

//! The decision and what it rests on.

use std::time::Duration;

use transship_decision::{By, Failure, Record, Root, SignedRecord, UnixMillis, Verdict};
use transship_freezer::State;
use transship_proto::v1::AwaitHeldRequest;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::{Fault, Reason};

use super::drive::{Migration, missing};
use super::plan::Leaving;
use super::preflight::{still_running, told};
use crate::host::process;

impl Migration {
    /// Waits for the target's word that every container is restored and held still.
    pub(super) async fn await_held(&mut self) -> Result<(), Fault> {
        let plan = self.plan()?;
        let dialled = self.connection.as_ref().ok_or_else(|| missing("connection"))?;
        let request = AwaitHeldRequest { migration: self.id.to_string() };
        let answer = TargetClient::new(dialled.channel.clone()).await_held(request).await;
        let answer = answer.map_err(|status| match told(&plan.target, status) {
            Fault { reason: Reason::TargetUnreachable, message } => Fault::new(Reason::TargetLost, message),
            other => other,
        })?;
        let answer = answer.into_inner();
        if answer.reason.is_empty() {
            return Ok(());
        }
        self.criu_log = answer.criu_log;
        Err(Fault::new(answer.reason.parse().unwrap_or(Reason::RestoreFailed), answer.message))
    }

    /// The last look before `released`: every container of the source stands still by its freezer alone, and is the
    /// one that was captured.
    pub(super) async fn check_still(&mut self) -> Result<(), Fault> {
        for container in &self.plan()?.containers {
            stands_still(container)?;
            still_running(&self.node, container.container_id.as_str()).await?;
        }
        Ok(())
    }

    /// Makes the decision, or learns how it was made.
    pub(super) fn decide(&mut self, verdict: Verdict) -> Result<Record, Fault> {
        let plan = self.plan()?;
        let (id, pod, at) = (self.id.clone(), plan.pod_uid.clone(), UnixMillis::now());
        let record = match verdict {
            Verdict::Released => {
                let root: Root = self.machine.root().ok_or_else(|| missing("sealed root"))?;
                Record::released(id, pod, root, By::Agent, at)
            }
            Verdict::Kept => {
                // None after a restart that found a record: that one stands, whatever this one says.
                let why = self.machine.trouble().unwrap_or_else(|| {
                    Failure::new(
                        Reason::AgentRestarted.as_ref(),
                        "the agent was restarted; the container runs on",
                    )
                });
                Record::kept(id, pod, why, By::Agent, at)
            }
        };
        let signed = self.node.signer.sign(SignedRecord::unsigned(record))?;
        let stands = self
            .node
            .state
            .decide(signed)
            .map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        Ok(stands.record().clone())
    }
}

fn stands_still(container: &Leaving) -> Result<(), Fault> {
    let broken = |what: String| Fault::new(Reason::FenceBroken, what);
    let cgroup = container.cgroup()?;
    let state = cgroup.state().map_err(|error| broken(error.to_string()))?;
    if state != State::Frozen {
        let what = format!("container {} reads back as {state:?}, not as frozen", container.container_id);
        return Err(broken(what));
    }
    let pids = cgroup.processes().map_err(|error| broken(error.to_string()))?;
    let groups = process::look(pids).map_err(|error| broken(error.to_string()))?;
    if let Some(traced) = groups.iter().find(|group| group.tracer != 0) {
        return Err(broken(format!(
            "process {} ({}) is traced by {}",
            traced.pid, traced.name, traced.tracer
        )));
    }
    if container.process_is_there()? {
        Ok(())
    } else {
        Err(broken(format!("process {} is another one now", container.pid)))
    }
}

/// How long the first try to let the target go may take: it is inside the freeze.
pub(super) const GO: Duration = Duration::from_secs(2);

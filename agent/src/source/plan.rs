//! What outlives an agent of a migration that leaves this node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use transship_decision::source::Processes;
use transship_decision::{ContainerId, MigrationId, PodUid};
use transship_freezer::{Cgroup, State};
use transship_proto::{Fault, Reason};

use crate::plan::Owner;

/// Enough to bring a migration to its end without knowing anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Departure {
    /// The migration.
    pub migration: MigrationId,
    /// The Pod that leaves: what the fence is keyed by.
    pub pod_uid: PodUid,
    /// Who makes and removes it.
    #[serde(default)]
    pub owner: Owner,
    /// Its containers, in the order that both ends number them by.
    pub containers: Vec<Leaving>,
    /// Its sandbox.
    pub sandbox_id: String,
    /// The Pod's own cgroup, as its configuration names it; empty if it has none.
    pub cgroup_parent: String,
    /// The network namespace, by a file of the sandbox's first process.
    pub network: PathBuf,
    /// The target's node name, as its certificate has it.
    pub target_node: String,
    /// HOST:PORT of the target's agent.
    pub target: String,
    /// Whether the container runtime itself pauses the containers, and has to be told when that is over.
    pub paused_by_runtime: bool,
    /// How long the workload may stand still.
    pub budget_ms: u32,
}

/// A container that leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Leaving {
    /// Its ID.
    pub container_id: ContainerId,
    /// Its first process, as it was.
    pub pid: u32,
    /// When that process was started, in clock ticks since boot: a PID alone may be somebody else's after a while.
    pub started: u64,
    /// The folder of its cgroup, by which it is frozen and thawed.
    pub cgroup: PathBuf,
}

impl Departure {
    /// What is found of the processes of all its containers together.
    pub fn processes(&self) -> Result<Processes, Fault> {
        let mut all = Processes::Frozen;
        for container in &self.containers {
            match container.processes()? {
                Processes::Running => return Ok(Processes::Running),
                Processes::Gone => all = Processes::Gone,
                Processes::Frozen => {}
            }
        }
        Ok(all)
    }
}

impl Leaving {
    /// The cgroup that is frozen and thawed.
    pub fn cgroup(&self) -> Result<Cgroup, Fault> {
        Cgroup::at(&self.cgroup).map_err(|error| Fault::new(Reason::WorkloadEnded, error.to_string()))
    }

    /// Whether its first process is still the one that was planned for.
    pub fn process_is_there(&self) -> Result<bool, Fault> {
        let unreadable = |error| {
            Fault::new(Reason::HostError, format!("process {} can't be looked at: {error}", self.pid))
        };
        match procfs::process::Process::new(self.pid.cast_signed()).and_then(|process| process.stat()) {
            Ok(stat) => Ok(stat.starttime == self.started && stat.state != 'Z'),
            Err(procfs::ProcError::NotFound(_)) => Ok(false),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn processes(&self) -> Result<Processes, Fault> {
        if !self.process_is_there()? {
            return Ok(Processes::Gone);
        }
        let state =
            self.cgroup()?.state().map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        Ok(if state == State::Frozen { Processes::Frozen } else { Processes::Running })
    }
}

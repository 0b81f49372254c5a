//! What outlives an agent of a migration that leaves this node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use transship_decision::{ContainerId, MigrationId, PodUid};
use transship_freezer::Cgroup;
use transship_proto::{Fault, Reason};

/// Enough to bring a migration to its end without knowing anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Departure {
    /// The migration.
    pub migration: MigrationId,
    /// The Pod that leaves: what the fence is keyed by.
    pub pod_uid: PodUid,
    /// The container that leaves.
    pub container_id: ContainerId,
    /// Its sandbox.
    pub sandbox_id: String,
    /// The Pod's own cgroup, as its configuration names it; empty if it has none.
    pub cgroup_parent: String,
    /// Its first process, as it was.
    pub pid: u32,
    /// When that process was started, in clock ticks since boot: a PID alone may be somebody else's after a while.
    pub started: u64,
    /// The network namespace, by a file of the sandbox's first process.
    pub network: PathBuf,
    /// The folder of its cgroup, by which it is frozen and thawed.
    pub cgroup: PathBuf,
    /// The target's node name, as its certificate has it.
    pub target_node: String,
    /// HOST:PORT of the target's agent.
    pub target: String,
    /// Whether the container runtime itself pauses the container, and has to be told when that is over.
    pub paused_by_runtime: bool,
    /// How long the workload may stand still.
    pub budget_ms: u32,
}

impl Departure {
    /// The cgroup that is frozen and thawed.
    pub fn cgroup(&self) -> Result<Cgroup, Fault> {
        Cgroup::at(&self.cgroup).map_err(|error| Fault::new(Reason::WorkloadEnded, error.to_string()))
    }

    /// Whether the source's first process is still the one that was planned for.
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
}

//! A migration that comes here: what outlives an agent, and what doesn't.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transship_decision::source::Heard;
use transship_decision::target::TargetPhase;
use transship_decision::{Failure, Lock, MigrationId, PodUid, SignedRecord, Target};
use transship_freezer::Cgroup;
use transship_proto::cri::{ContainerConfig, PodSandboxConfig};

use crate::host::Workspace;

/// Enough to bring a migration to its end on this side without knowing anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Arrival {
    /// The migration.
    pub migration: MigrationId,
    /// The Pod that is made here: what the expectation is keyed by.
    pub pod_uid: PodUid,
    /// The source node's name.
    pub source_node: String,
    /// The source node's certificate (DER), whose key alone can decide.
    pub source_certificate: Vec<u8>,
    /// HOST:PORT of the source's agent, to be asked for the decision.
    pub source_address: String,
    /// What the sandbox is made from.
    pub sandbox: PodSandboxConfig,
    /// The runtime handler.
    pub runtime_handler: String,
    /// What the containers are made from.
    pub containers: Vec<ContainerConfig>,
    /// The OCI runtime behind the wrapper.
    pub oci_program: PathBuf,
    /// The most that may be received, in bytes.
    pub capacity: u64,
}

impl Arrival {
    /// The containers' names in the Pod.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.containers.iter().map(|container| container.metadata.clone().unwrap_or_default().name)
    }

    /// What the container of that name is made from.
    pub fn container(&self, name: &str) -> Option<&ContainerConfig> {
        self.containers
            .iter()
            .find(|container| container.metadata.as_ref().is_some_and(|data| data.name == name))
    }
}

/// A migration that comes here, at work.
#[derive(Debug)]
pub struct AtWork {
    /// What outlives this agent.
    pub plan: Arrival,
    /// Where the state goes.
    pub workspace: Workspace,
    /// Ends everything that waits for this migration when it is over.
    pub over: CancellationToken,
    machine: Mutex<Target>,
    changed: watch::Sender<u64>,
    lock: Mutex<Option<Lock>>,
    logs: Mutex<String>,
    carried: Mutex<Option<SignedRecord>>,
    held: Mutex<Vec<Cgroup>>,
    sandbox_pid: Mutex<Option<u32>>,
}

impl AtWork {
    /// At the machine's point; `lock` is the right to work on it.
    pub fn new(plan: Arrival, workspace: Workspace, machine: Target, lock: Lock) -> Self {
        Self {
            plan,
            workspace,
            over: CancellationToken::new(),
            machine: Mutex::new(machine),
            changed: watch::Sender::new(0),
            lock: Mutex::new(Some(lock)),
            logs: Mutex::default(),
            carried: Mutex::default(),
            held: Mutex::default(),
            sandbox_pid: Mutex::default(),
        }
    }

    /// Tells the machine something; everybody who waits looks again.
    pub fn tell<T>(&self, event: impl FnOnce(&mut Target) -> T) -> T {
        let told = event(&mut held(&self.machine));
        self.changed.send_modify(|version| *version += 1);
        told
    }

    /// Tells the machine something that nobody else waits for.
    pub fn tell_quietly<T>(&self, event: impl FnOnce(&mut Target) -> T) -> T {
        event(&mut held(&self.machine))
    }

    /// Asks the machine something.
    pub fn ask<T>(&self, question: impl FnOnce(&Target) -> T) -> T {
        question(&held(&self.machine))
    }

    /// Where it is.
    pub fn phase(&self) -> TargetPhase {
        self.ask(Target::phase)
    }

    /// Ends it from this side, which is possible until the tree is sealed.
    pub fn give_up(&self, why: Failure) -> Heard {
        self.tell(|machine| machine.give_up(why))
    }

    /// To be looked at before the machine is: then no event is missed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until the machine's state gives an answer.
    pub async fn until<T>(&self, answer: impl Fn(&Target) -> Option<T>) -> T {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if let Some(answer) = self.ask(&answer) {
                return answer;
            }
            if changes.changed().await.is_err() {
                // The sender lives in `self`; it can't be gone.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Keeps a verified record until the machine wants it adopted.
    pub fn carry(&self, record: SignedRecord) {
        *held(&self.carried) = Some(record);
    }

    /// The verified record that was carried here last.
    pub fn carried(&self) -> Option<SignedRecord> {
        held(&self.carried).clone()
    }

    /// The sandbox's first process, learnt while nothing waits in it: containerd answers for a sandbox only after
    /// seconds while a `create` in it is under way.
    pub fn keep_sandbox_pid(&self, pid: u32) {
        *held(&self.sandbox_pid) = Some(pid);
    }

    /// The sandbox's first process, if this agent made the sandbox.
    pub fn sandbox_pid(&self) -> Option<u32> {
        *held(&self.sandbox_pid)
    }

    /// A restored container is held in that cgroup.
    pub fn keep_held(&self, cgroup: Cgroup) {
        held(&self.held).push(cgroup);
    }

    /// The cgroups of the containers that this agent has seen held and that are still there.
    pub fn held(&self) -> Vec<Cgroup> {
        held(&self.held).iter().filter(|cgroup| cgroup.path().exists()).cloned().collect()
    }

    /// CRIU's log of the restore that failed last.
    pub fn keep_log(&self, text: String) {
        *held(&self.logs) = text;
    }

    /// CRIU's log of the restore that failed last; empty if none has.
    pub fn kept_log(&self) -> String {
        held(&self.logs).clone()
    }

    /// Nothing is left to do: whoever else may take the lock now.
    pub fn end(&self) {
        self.over.cancel();
        *held(&self.lock) = None;
    }
}

/// A poisoned lock holds a machine that is whole: its methods don't panic half-way.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The migrations that come to this node.
#[derive(Debug, Default)]
pub struct Arrivals {
    at_work: Mutex<HashMap<MigrationId, Arc<AtWork>>>,
    refused: Mutex<HashSet<MigrationId>>,
}

impl Arrivals {
    /// Adds one.
    pub fn add(&self, arrival: Arc<AtWork>) {
        held(&self.at_work).insert(arrival.plan.migration.clone(), arrival);
    }

    /// The one of that name, if it is at work.
    pub fn get(&self, migration: &MigrationId) -> Option<Arc<AtWork>> {
        held(&self.at_work).get(migration).cloned()
    }

    /// Forgets one that is over.
    pub fn remove(&self, migration: &MigrationId) {
        held(&self.at_work).remove(migration);
    }

    /// The source has kept one that isn't known here (yet).
    pub fn refuse(&self, migration: MigrationId) {
        held(&self.refused).insert(migration);
    }

    /// Whether the source has kept it before it came.
    pub fn is_refused(&self, migration: &MigrationId) -> bool {
        held(&self.refused).contains(migration)
    }
}

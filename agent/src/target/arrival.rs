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
use transship_proto::{Fault, Reason};

use crate::host::Workspace;
use crate::plan::Owner;

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
    /// Who makes the sandbox and its containers. A kubelet knows by itself what they are made from.
    #[serde(default)]
    pub owner: Owner,
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
    /// The containers' names in the Pod, no two alike.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.containers.iter().map(|container| container.metadata.clone().unwrap_or_default().name)
    }

    /// The container of that name: the number by which both ends know it, and what it is made from.
    pub fn container(&self, name: &str) -> Result<(usize, &ContainerConfig), Fault> {
        let named =
            |container: &ContainerConfig| container.metadata.as_ref().is_some_and(|data| data.name == name);
        let found = self.containers.iter().enumerate().find(|(_, container)| named(container));
        found.ok_or_else(|| {
            let what = format!("migration {} has no container {name}", self.migration);
            Fault::new(Reason::RuntimeError, what)
        })
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
    held: Mutex<HashMap<String, Cgroup>>,
    sandbox_pid: Mutex<Option<u32>>,
    made: Mutex<HashMap<String, String>>,
    starting: tokio::sync::Mutex<()>,
    placing: Mutex<()>,
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
            made: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            placing: Mutex::default(),
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

    /// The runtime has made that container, and it isn't started yet.
    pub fn keep_made(&self, name: String, id: String) {
        held(&self.made).insert(name, id);
    }

    /// The ID of the container of that name that was made and hasn't been started. The caller starts it.
    pub fn take_made(&self, name: &str) -> Option<String> {
        held(&self.made).remove(name)
    }

    /// The right to start a container: one after the other, as a kubelet does. containerd's shim of a Pod does nothing
    /// else while it creates a container, and the `create` of one that is expected waits.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.starting.lock().await
    }

    /// The right to put the Pod's own content into its place.
    pub fn placing(&self) -> MutexGuard<'_, ()> {
        held(&self.placing)
    }

    /// A restored container is held in that cgroup.
    pub fn keep_held(&self, name: &str, cgroup: Cgroup) {
        held(&self.held).insert(name.to_owned(), cgroup);
    }

    /// The cgroups of all containers, if this agent has seen every one held.
    pub fn held(&self) -> Option<Vec<Cgroup>> {
        let held = held(&self.held);
        self.plan.names().map(|name| held.get(&name).cloned()).collect()
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
        *held(&self.lock) = None;
        self.over.cancel();
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

//! Where everything lies on a node.

use std::path::{Path, PathBuf};

use crate::files::Disk;
use crate::{ContainerId, MigrationId, PodUid};

/// The folder that outlives a reboot, by default [`StateDir::DEFAULT`]:
///
/// ```text
/// migrations/MIGRATION/plan.json   what was asked for; written first
/// migrations/MIGRATION/record      the decision
/// migrations/MIGRATION/lock        held by whoever works on the migration (flock)
/// migrations/MIGRATION/outcome     of a Pod's, on the source: how it ended, until its coordinator has settled both Pods
/// migrations/MIGRATION/done        nothing is left to do
/// fences/POD-UID                   on the source: the migration for which `create` is refused
/// expected/POD-UID                 on the target: the migration whose images `create` restores
/// ```
///
/// What it can do lies beside what it does it for: decisions in `decide.rs`, markers in `marker.rs`, the
/// rest of a migration's folder in `migrations.rs`.
#[derive(Clone, Debug)]
pub struct StateDir<F = Disk> {
    path: PathBuf,
    pub(crate) files: F,
}

impl StateDir {
    /// Where the state lies unless a configuration says otherwise.
    pub const DEFAULT: &str = "/var/lib/transship";

    /// The state below `path`, on the disk. Nothing is read or made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self::with_files(path, Disk)
    }
}

impl<F> StateDir<F> {
    /// The state below `path`, kept in `files`: for the simulation, whose disk is a model.
    pub fn with_files(path: impl Into<PathBuf>, files: F) -> Self {
        Self { path: path.into(), files }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of all migrations.
    pub fn migrations_path(&self) -> PathBuf {
        self.path.join("migrations")
    }

    /// The folder of one migration.
    pub fn migration_path(&self, id: &MigrationId) -> PathBuf {
        self.migrations_path().join(id.as_str())
    }

    /// The plan of a migration; its contents are the agent's.
    pub fn plan_path(&self, id: &MigrationId) -> PathBuf {
        self.migration_path(id).join("plan.json")
    }

    /// The decision of a migration.
    pub fn record_path(&self, id: &MigrationId) -> PathBuf {
        self.migration_path(id).join("record")
    }

    /// The file whose `flock` is held by whoever works on the migration.
    pub fn lock_path(&self, id: &MigrationId) -> PathBuf {
        self.migration_path(id).join("lock")
    }

    /// How a Pod's migration ended; its contents are the agent's. Written before [`StateDir::done_path`].
    pub fn outcome_path(&self, id: &MigrationId) -> PathBuf {
        self.migration_path(id).join("outcome")
    }

    /// The mark that nothing is left to do; the watchdog ends when it is there.
    pub fn done_path(&self, id: &MigrationId) -> PathBuf {
        self.migration_path(id).join("done")
    }

    /// The fence of a Pod.
    pub fn fence_path(&self, pod: &PodUid) -> PathBuf {
        self.path.join("fences").join(pod.as_str())
    }

    /// The mark that a Pod is expected.
    pub fn expected_path(&self, pod: &PodUid) -> PathBuf {
        self.path.join("expected").join(pod.as_str())
    }
}

/// The folder that a reboot empties (a tmpfs), by default [`RunDir::DEFAULT`].
#[derive(Clone, Debug)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Where sockets and marks lie unless a configuration says otherwise.
    pub const DEFAULT: &str = "/run/transship";

    /// The run folder at `path`. Nothing is read or made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The agent's gRPC socket, for the command line.
    pub fn agent_socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    /// The socket on which the agent answers wrappers; [`crate::wire`] is what is spoken there.
    pub fn runtime_socket(&self) -> PathBuf {
        self.0.join("runtime.sock")
    }

    /// The tmpfs of one migration.
    pub fn work_path(&self, id: &MigrationId) -> PathBuf {
        self.0.join("work").join(id.as_str())
    }

    /// The mark that a container was restored, so that its next `start` has nothing to do.
    pub fn restored_path(&self, id: &ContainerId) -> PathBuf {
        self.0.join("restored").join(id.as_str())
    }
}

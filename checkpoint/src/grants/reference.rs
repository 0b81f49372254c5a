//! What a freshly started container of this node has of the things that no bundle names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::bundle::Grant;
use super::claim::{FileId, Namespace};
use super::limits::Limits;
use super::live::{self, LiveError};

/// What to hold tasks against where their bundle says nothing: the target's own sandbox, which nobody brought along.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    pub(super) limits: Limits,
    pub(super) oom_score_adj: i32,
    /// Cgroup hierarchies in which the node's runtime gives containers a cgroup of their own.
    pub(super) hierarchies: BTreeSet<String>,
    /// The node's own namespaces.
    pub(super) namespaces: BTreeSet<(Namespace, FileId)>,
}

impl Reference {
    /// Reads it from the sandbox's process `pid`, whose bundle grants `sandbox`, and from the node's init process.
    pub fn of_sandbox(pid: u32, sandbox: &Grant) -> Result<Self, LiveError> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let path = process.join("limits");
        let limits =
            Limits::from_proc(&live::read(&path)?).ok_or(LiveError::Malformed { path, what: "limit" })?;
        let path = process.join("oom_score_adj");
        let oom_score_adj = live::read(&path)?.trim().parse();
        let own_cgroup = sandbox.cgroup();
        let memberships = live::memberships(&process)?.into_iter();
        let hierarchies: BTreeSet<String> =
            memberships.filter(|one| one.path == own_cgroup).map(|one| one.hierarchy).collect();
        if hierarchies.is_empty() {
            return Err(LiveError::SandboxElsewhere { pid, cgroup: own_cgroup });
        }
        Ok(Self {
            limits,
            // The sandbox is less likely to be killed than its containers, so this is the least that they may have.
            oom_score_adj: oom_score_adj.map_err(|_| LiveError::Malformed { path, what: "oom_score_adj" })?,
            hierarchies,
            namespaces: live::namespaces(Path::new("/proc/1"))?.into_iter().collect(),
        })
    }

    pub(super) fn holds_cgroup(&self, hierarchy: &str) -> bool {
        self.hierarchies.contains(hierarchy)
    }
}

//! What a container's tasks may do, held against what its bundle grants.
//!
//! Three times, by the same judge: the running tasks on the source before anything is done, the images on the target
//! before they are restored, and the held tasks there before the source is released.

use std::path::{Path, PathBuf};

use serde_json::Value;
use transship_checkpoint::grants::{Claim, Excess, Grant, Reference, claims_of_images, claims_of_processes, excess};
use transship_proto::{Fault, Reason};

use crate::host::failed;
use crate::node::chain;

/// A container's bundle, and the sandbox that stands for a freshly started container of this node.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The container's own bundle.
    pub container: PathBuf,
    /// The sandbox's first process.
    pub sandbox_pid: u32,
    /// The sandbox's bundle.
    pub sandbox: PathBuf,
}

impl Bundle {
    /// The bundle of a container, in the folder where the runtime keeps its sandbox's too.
    pub fn of(container: &Path, sandbox_id: &str, sandbox_pid: u32) -> Self {
        Self { container: container.into(), sandbox_pid, sandbox: container.with_file_name(sandbox_id) }
    }

    /// The container's `config.json`.
    pub fn config(&self) -> Result<Value, Fault> {
        let file = self.container.join("config.json");
        let text = std::fs::read(&file).map_err(failed(format_args!("reading {}", file.display())))?;
        serde_json::from_slice(&text).map_err(|error| Fault::new(Reason::RuntimeError, format!("{} can't be read: {error}", file.display())))
    }

    /// Refuses tasks that may do more than the bundle grants.
    pub fn check_tasks(&self, pids: &[u32]) -> Result<(), Fault> {
        self.judge("the container's tasks", || claims_of_processes(pids).map_err(|error| chain(&error)))
    }

    /// Refuses images that would make tasks that may do more than the bundle grants.
    pub fn check_images(&self, images: &Path) -> Result<(), Fault> {
        self.judge("the images", || claims_of_images(images).map_err(|error| chain(&error)))
    }

    fn judge(&self, whose: &str, claims: impl FnOnce() -> Result<Vec<Claim>, String>) -> Result<(), Fault> {
        let unreadable = |why: String| Fault::new(Reason::GrantExceeded, format!("what {whose} may do can't be held against the bundle: {why}"));
        let grant = Grant::from_bundle(&self.container).map_err(|error| unreadable(chain(&error)))?;
        let sandbox = Grant::from_bundle(&self.sandbox).map_err(|error| unreadable(chain(&error)))?;
        let reference = Reference::of_sandbox(self.sandbox_pid, &sandbox).map_err(|error| unreadable(chain(&error)))?;
        let found = excess(&grant, &claims().map_err(unreadable)?, &reference);
        if found.is_empty() {
            return Ok(());
        }
        let said: Vec<String> = found.iter().take(3).map(Excess::to_string).collect();
        let more = found.len().saturating_sub(said.len());
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Err(Fault::new(Reason::GrantExceeded, format!("{whose} may do more than the bundle grants: {}{more}", said.join("; "))))
    }
}

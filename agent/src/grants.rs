//! What a container's tasks may do, held against what its bundle grants.
//!
//! Three times, by the same judge: the running tasks on the source before anything is done, the images on the target
//! before they are restored, and the held tasks there before the source is released.

use std::io;
use std::path::Path;

use transship_checkpoint::grants::{
    Claim, Excess, Grant, LiveError, Reference, claims_of_images, claims_of_processes, excess,
};
use transship_proto::{Fault, Reason};

use crate::node::chain;

/// How often tasks may end while they are looked at: a shell that starts one program after the other does that.
const ENDED_MEANWHILE: usize = 50;

/// What a bundle grants, and what a freshly started container of this node has of all that no bundle names.
#[derive(Debug, Clone)]
pub struct Judge {
    grant: Grant,
    reference: Reference,
}

impl Judge {
    /// The judge for a container. To be called before anything that came from elsewhere is put into its root.
    ///
    /// The sandbox, whose bundle lies beside the container's, stands for what this node gives by itself.
    pub fn of(bundle: &Path, sandbox_id: &str, sandbox_pid: u32) -> Result<Self, Fault> {
        let unreadable = |why: String| {
            Fault::new(
                Reason::RuntimeError,
                format!("what the bundle {} grants can't be told: {why}", bundle.display()),
            )
        };
        let grant = Grant::from_bundle(bundle).map_err(|error| unreadable(chain(&error)))?;
        let sandbox = Grant::from_bundle(&bundle.with_file_name(sandbox_id))
            .map_err(|error| unreadable(chain(&error)))?;
        let reference =
            Reference::of_sandbox(sandbox_pid, &sandbox).map_err(|error| unreadable(chain(&error)))?;
        Ok(Self { grant, reference })
    }

    /// Where in the hierarchies the container's cgroup is.
    pub fn cgroup(&self) -> String {
        self.grant.cgroup()
    }

    /// Refuses tasks that may do more than the bundle grants.
    pub fn tasks(&self, pids: &[u32]) -> Result<(), Fault> {
        self.judge("the container's tasks", claims_of_processes(pids).map_err(|error| chain(&error)))
    }

    /// The same for tasks that run: where one ends while it is looked at, `list` is asked for them again.
    pub fn running_tasks(&self, list: impl Fn() -> Result<Vec<u32>, Fault>) -> Result<(), Fault> {
        let mut claims = claims_of_processes(&list()?);
        for _ in 0..ENDED_MEANWHILE {
            match &claims {
                Err(LiveError::Read { source, .. }) if of_one_that_ended(source) => {
                    claims = claims_of_processes(&list()?);
                }
                _ => break,
            }
        }
        self.judge("the container's tasks", claims.map_err(|error| chain(&error)))
    }

    /// Refuses images that would make tasks that may do more than the bundle grants.
    pub fn images(&self, images: &Path) -> Result<(), Fault> {
        self.judge("the images", claims_of_images(images).map_err(|error| chain(&error)))
    }

    fn judge(&self, whose: &str, claims: Result<Vec<Claim>, String>) -> Result<(), Fault> {
        let unreadable = |why: String| {
            Fault::new(Reason::GrantExceeded, format!("what {whose} may do can't be told: {why}"))
        };
        let found = excess(&self.grant, &claims.map_err(unreadable)?, &self.reference);
        if found.is_empty() {
            return Ok(());
        }
        let said: Vec<String> = found.iter().take(3).map(Excess::to_string).collect();
        let more = found.len().saturating_sub(said.len());
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Err(Fault::new(
            Reason::GrantExceeded,
            format!(
                "{whose} may do more than the bundle grants: {}{more}; find out how the container came by that, then start it anew",
                said.join("; ")
            ),
        ))
    }
}

/// Files in `/proc` of a process that has ended are missing, or fail to be read if they were open by then.
fn of_one_that_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

//! What a restored task may do, held against what its container's bundle grants.
//!
//! Capabilities, ids, seccomp filters, limits and mounts of a restored process come from the images, which come from
//! elsewhere. What must decide is the bundle that this node's own runtime was given. So the images are held against it
//! before they are restored ([`claims_of_images`]), and each held task is read back afterwards
//! ([`claims_of_processes`]); [`excess()`] is the one judge of both.
//!
//! ```no_run
//! # use std::path::Path;
//! # use transship_checkpoint::grants::{Grant, Reference, claims_of_images, claims_of_processes, excess};
//! # fn held_tasks() -> Vec<u32> { Vec::new() }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (sandbox_pid, sandbox_bundle, bundle, images) = (1, Path::new(""), Path::new(""), Path::new(""));
//! let reference = Reference::of_sandbox(sandbox_pid, &Grant::from_bundle(sandbox_bundle)?)?;
//! let grant = Grant::from_bundle(bundle)?;
//! assert!(excess(&grant, &claims_of_images(images)?, &reference).is_empty());
//! // … restore, held still …
//! assert!(excess(&grant, &claims_of_processes(&held_tasks())?, &reference).is_empty());
//! # Ok(())
//! # }
//! ```

mod bundle;
mod caps;
mod cgroup;
mod claim;
mod compare;
mod excess;
mod files;
mod images;
mod limits;
mod live;
mod mounts;
mod reference;
mod seccomp;

pub use bundle::{Grant, GrantError};
pub use caps::CapSet;
pub use claim::{
    Capabilities, Claim, FileId, Label, Membership, Mount, Namespace, Origin, Restrictions, Seccomp, Task,
    Whose,
};
pub use compare::excess;
pub use excess::{Beyond, Excess};
pub use images::{ImageClaimError, claims_of_images};
pub use limits::{Limits, Resource, UNLIMITED};
pub use live::{LiveError, claims_of_processes};
pub use reference::Reference;
pub use seccomp::Program;

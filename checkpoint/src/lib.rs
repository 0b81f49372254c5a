//! What a checkpoint holds and what may be done with it.
//!
//! - [`image`]: CRIU's image files, decoded strictly.
//! - [`grants`]: what a task may do (by the images that it will be restored from, or by `/proc`), held against what
//!   its container's bundle grants.
//! - [`log`]: CRIU's log, translated into a reason that people can act upon.
//! - [`rootfs`]: the changes of a root file system, carried as an OCI layer.
//! - [`archive`]: checkpoint archives as kubelet and CRI make them.
//!
//! No async and no network. All that is read here may come from a stranger: it is capped before it is allocated, and
//! malformed input is an error, never a panic.

pub mod archive;
pub mod grants;
pub mod image;
pub mod log;
pub mod rootfs;
mod tar_reader;

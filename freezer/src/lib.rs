//! The cgroup of a container, under cgroup v1 (also hybrid) and v2: freeze it, thaw it, read back which it
//! is, and kill what is in it without letting it run once more.
//!
//! Under v1 "the" cgroup is the one of the freezer hierarchy. Everything here blocks its thread, for at most
//! the time that the caller gives.
//!
//! CRIU lifts the freeze for as long as it dumps, holding the tasks by ptrace, and sets it again when it
//! ends in order. So a frozen state is worth what the last [`Cgroup::state`] said, with no CRIU at work.

mod cgroup;
mod freeze;
mod host;
mod kill;
mod stuck;

pub use cgroup::{Cgroup, FindError, State, TasksError, Version};
pub use freeze::FreezeError;
pub use host::{HostCgroup, HostCgroupError, join, of_init};
pub use kill::KillError;
pub use stuck::Stuck;

//! The two programs that must work when nothing else does.
//!
//! - `transship-runtime` ([`wrapper`]) stands in front of the node's OCI runtime. It changes two commands,
//!   `create` and `start`, of containers that a migration is about; everything else it passes on.
//! - `transship-watchdog` ([`watchdog`]) sees to it that no container stays frozen because an agent died.
//!
//! Both are static, without an async runtime, and know nothing of networks.

pub mod watchdog;
pub mod wrapper;

//! What the test programs share.
//!
//! The programs in `src/bin` run inside the containers that the tests migrate, and are the tests' evidence: a test
//! believes what a workload says of itself, never what transship says of it. They are built as static binaries
//! (`-C target-feature=+crt-static`), so that an image of one file is enough, and die at once on SIGTERM although
//! they are PID 1 there.

pub mod counters;
pub mod pages;
pub mod server;
pub mod signals;
pub mod witness;

//! What everyone agrees on: the calls between agents, the Container Runtime Interface, reasons and phases, and what two
//! nodes must have in common. No I/O.

mod mismatch;
mod phase;
mod reason;

pub use mismatch::mismatches;
pub use phase::phase_name;
pub use reason::{DOMAIN, Fault, Reason};

/// The Container Runtime Interface, version 1: what a kubelet says to containerd or CRI-O.
#[expect(missing_docs, clippy::all, reason = "generated; documented in k8s.io/cri-api")]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}

/// containerd's own calls, beside CRI.
#[expect(missing_docs, reason = "generated; documented in containerd")]
pub mod containerd {
    tonic::include_proto!("containerd.services.tasks.v1");
}

/// The calls between agents and from the command line. Documented in `transship/agent.proto`.
#[expect(missing_docs, clippy::all, reason = "generated; documented in the .proto file")]
pub mod v1 {
    tonic::include_proto!("transship.v1");
}

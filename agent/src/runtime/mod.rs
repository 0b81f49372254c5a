//! This node's container runtime: its CRI, what it says of a running container, and its OCI runtime.

mod bundle;
mod cri;
mod inspect;
mod oci;

pub use bundle::Bundle;
pub use cri::Cri;
pub use inspect::{Inspected, InspectedPod, bundle_of, container_pid, inspect, oci_runtime_of, sandbox_pid};
pub use oci::{CRIU_CONFIG_VARIABLE, CheckpointOptions, OciRuntime};

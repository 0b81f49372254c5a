//! Pods that a coordinator moves: the kubelets make and remove them, the agents move what is in them.
//!
//! ```text
//! begin -> [source's and target's own way] -> outcome, kept on the disk -> forget
//!    \_ handover: what has happened so far, for whoever watches; a cancel
//! ```

mod begin;
mod describe;
mod find;
mod forget;
mod handover;
mod outcome;
pub mod volumes;
mod watch;

use transship_decision::MigrationId;
use transship_proto::{Fault, Reason};

pub use begin::{Move, begin, cancel};
pub use describe::{describe, preflight};
pub use find::{running_container, stands};
pub use forget::forget;
pub use handover::{Handover, Handovers, Standing};
pub use outcome::{keep, kept};
pub use watch::watch;

/// The one name in the certificate of whoever may ask for Pods to be moved.
pub const COORDINATOR: &str = "transship-coordinator";

fn unknown(migration: &MigrationId) -> Fault {
    let what = format!("no migration {migration} leaves this node, or it was forgotten");
    Fault::new(Reason::MigrationNotFound, what)
}

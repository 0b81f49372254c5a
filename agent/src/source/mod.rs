//! A migration at the node that it leaves.
//!
//! [`drive`] asks the machine of `transship-decision` for a step, does it, and tells how it ended. A file per step or
//! two, in the order of the journey:
//!
//! ```text
//! preflight/ -> prepare -> guard (watchdog, fence) -> freeze -> capture -> decide -> carry -> retire
//!                                                       \________ any failure: decide (kept) -> undo
//! ```

mod capture;
mod carry;
mod decide;
mod drive;
mod events;
mod freeze;
mod guard;
mod plan;
mod preflight;
mod prepare;
mod recover;
mod retire;
mod undo;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use drive::{Wish, hand_over, migrate};
pub use plan::Departure;
pub use preflight::{Cleared, preflight};
pub use recover::recover;

use transship_decision::{MigrationId, PodUid};
use transship_proto::{Fault, Reason};

/// What is leaving this node.
#[derive(Debug, Default)]
pub struct Departures {
    /// Each Pod by one migration at most.
    pods: Mutex<HashMap<PodUid, MigrationId>>,
    /// Migrations whose target has said by itself that it runs the Pod.
    followed: Mutex<HashSet<MigrationId>>,
}

impl Departures {
    /// Claims a Pod for a migration.
    fn claim(&self, pod: &PodUid, migration: &MigrationId) -> Result<(), Fault> {
        let mut all = held(&self.pods);
        match all.get(pod) {
            Some(other) if other != migration => {
                let what =
                    format!("Pod {pod} is being moved by migration {other} already; wait for that one");
                Err(Fault::new(Reason::AlreadyMigrating, what))
            }
            _ => {
                all.insert(pod.clone(), migration.clone());
                Ok(())
            }
        }
    }

    fn free(&self, migration: &MigrationId) {
        held(&self.pods).retain(|_, other| other != migration);
        held(&self.followed).remove(migration);
    }

    /// The target has said that it runs the Pod.
    pub fn has_followed(&self, migration: MigrationId) {
        held(&self.followed).insert(migration);
    }

    fn is_followed(&self, migration: &MigrationId) -> bool {
        held(&self.followed).contains(migration)
    }
}

/// A poisoned lock holds a collection that is whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

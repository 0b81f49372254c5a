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

pub use drive::migrate;
pub use plan::Departure;
pub use recover::recover;

use transship_decision::{ContainerId, MigrationId};
use transship_proto::{Fault, Reason};

/// What is leaving this node.
#[derive(Debug, Default)]
pub struct Departures {
    /// Each container by one migration at most.
    containers: Mutex<HashMap<ContainerId, MigrationId>>,
    /// Migrations whose target has said by itself that it runs the container.
    followed: Mutex<HashSet<MigrationId>>,
}

impl Departures {
    /// Claims a container for a migration.
    fn claim(&self, container: &ContainerId, migration: &MigrationId) -> Result<(), Fault> {
        let mut all = held(&self.containers);
        match all.get(container) {
            Some(other) if other != migration => {
                let what = format!(
                    "container {container} is being moved by migration {other} already; wait for that one"
                );
                Err(Fault::new(Reason::AlreadyMigrating, what))
            }
            _ => {
                all.insert(container.clone(), migration.clone());
                Ok(())
            }
        }
    }

    fn free(&self, migration: &MigrationId) {
        held(&self.containers).retain(|_, other| other != migration);
        held(&self.followed).remove(migration);
    }

    /// The target has said that it runs the container.
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

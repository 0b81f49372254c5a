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

use std::collections::HashMap;
use std::sync::Mutex;

pub use drive::migrate;
pub use plan::Departure;
pub use recover::recover;

use transship_decision::{ContainerId, MigrationId};
use transship_proto::{Fault, Reason};

/// The containers that are leaving this node, each by one migration at most.
#[derive(Debug, Default)]
pub struct Departures(Mutex<HashMap<ContainerId, MigrationId>>);

impl Departures {
    /// Claims a container for a migration.
    fn claim(&self, container: &ContainerId, migration: &MigrationId) -> Result<(), Fault> {
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
        let mut all = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|_, other| other != migration);
    }
}

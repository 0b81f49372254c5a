//! The plan of a migration as it lies on each end's disk.

use serde::{Deserialize, Serialize};
use transship_decision::{MigrationId, StateDir};
use transship_proto::{Fault, Reason};

use crate::source::Departure;
use crate::target::Arrival;

/// Who makes and removes a migration's sandbox and containers, on both ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent, through the container runtime: nobody else does on a single host.
    #[default]
    Agent,
    /// The node's kubelet. Markers of its Pods stay until the migration is forgotten, for it starts again what ends.
    Kubelet,
}

/// Which end this node is of a migration, with all that this end needs to bring it to its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "side")]
pub enum Plan {
    /// It leaves this node.
    Departure(Box<Departure>),
    /// It comes to this node.
    Arrival(Box<Arrival>),
}

/// One end of a migration.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// The end that the workload leaves, and the cgroup in which it is captured.
    Source {
        /// What is planned.
        plan: &'a Departure,
        /// The folder of the cgroup.
        capture: &'a std::path::Path,
    },
    /// The end that it comes to.
    Target(&'a Arrival),
}

/// A migration's name out of a call.
///
/// # Errors
/// [`Reason::InvalidArgument`] for what is no name.
pub fn migration_id(text: &str) -> Result<MigrationId, Fault> {
    text.parse().map_err(|error| Fault::new(Reason::InvalidArgument, format!("{error}")))
}

impl Plan {
    /// The plan of a migration that was begun here, if it was.
    pub fn load(state: &StateDir, migration: &MigrationId) -> Result<Option<Self>, Fault> {
        let broken = |why: String| {
            Fault::new(Reason::HostError, format!("the plan of migration {migration} can't be read: {why}"))
        };
        let Some(text) = state.plan(migration).map_err(|error| broken(error.to_string()))? else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| broken(error.to_string()))
    }

    /// Who makes and removes the Pod on this end.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Departure(plan) => plan.owner,
            Self::Arrival(plan) => plan.owner,
        }
    }

    /// Begins the migration on this node's disk.
    pub fn begin(&self, state: &StateDir, migration: &MigrationId) -> Result<(), Fault> {
        let failed = |why: String| {
            Fault::new(Reason::HostError, format!("migration {migration} can't be begun: {why}"))
        };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?;
        state.begin(migration, &text).map_err(|error| failed(error.to_string()))
    }
}

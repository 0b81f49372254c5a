//! How a Pod's migration ended, as it lies on the disk until the coordinator has settled both Pods.

use prost::Message;
use transship_decision::MigrationId;
use transship_proto::v1::Outcome;
use transship_proto::{Fault, Reason};

use crate::node::Node;

/// Keeps an outcome; gives the one that stands, for another process may have been first.
pub fn keep(node: &Node, migration: &MigrationId, outcome: &Outcome) -> Result<Outcome, Fault> {
    let stands = node.state.conclude(migration, &outcome.encode_to_vec());
    let stands = stands.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    decode(migration, &stands)
}

/// The outcome that is kept, if there is one.
pub fn kept(node: &Node, migration: &MigrationId) -> Result<Option<Outcome>, Fault> {
    let kept = node.state.outcome(migration);
    let kept = kept.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    kept.map(|bytes| decode(migration, &bytes)).transpose()
}

fn decode(migration: &MigrationId, bytes: &[u8]) -> Result<Outcome, Fault> {
    Outcome::decode(bytes).map_err(|error| {
        let what = format!("the outcome of migration {migration} can't be read: {error}; look at the disk");
        Fault::new(Reason::HostError, what)
    })
}

/// Why a migration that didn't succeed did not.
pub(super) fn fault_of(outcome: &Outcome) -> Fault {
    Fault::new(outcome.reason.parse().unwrap_or(Reason::HostError), outcome.message.clone())
}

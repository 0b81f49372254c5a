//! The signed record, on its way to the target.

use std::time::Duration;

use transship_decision::{MigrationId, Verdict};
use transship_dial::{Dialled, dial};
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{DecideRequest, State};
use transship_proto::{Fault, Reason};

use super::preflight::told;
use crate::node::Node;

/// How the target took a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It did what the record says.
    Done,
    /// It knows nothing of the migration any more.
    Unknown,
}

/// Carries the record that stands to the target once, and waits for `patience` until it has been followed.
pub async fn carry(
    node: &Node,
    migration: &MigrationId,
    target: &str,
    connection: Option<&Dialled>,
    patience: Duration,
) -> Result<Taken, Fault> {
    let standing =
        node.state.standing(migration).map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    let undecided = || Fault::new(Reason::HostError, format!("migration {migration} is undecided"));
    let signed = node.signer.sign(standing.ok_or_else(undecided)?)?;
    let wanted = match signed.record().verdict() {
        Verdict::Released => State::Resumed,
        Verdict::Kept => State::Discarded,
    };
    let calling = async {
        let channel = match connection {
            Some(dialled) => dialled.channel.clone(),
            None => dial(&node.identity, target).await?.channel,
        };
        let request = DecideRequest { record: signed.encode() };
        let answer =
            TargetClient::new(channel).decide(request).await.map_err(|status| told(target, status))?;
        match answer.into_inner().state() {
            state if state == wanted => Ok(Taken::Done),
            State::Unknown => Ok(Taken::Unknown),
            other => {
                let what = format!(
                    "the target at {target} is still {} and will be asked again",
                    other.as_str_name()
                );
                Err(Fault::new(Reason::TargetLost, what))
            }
        }
    };
    let late = |_| {
        Err(Fault::new(
            Reason::TargetUnreachable,
            format!("the target at {target} didn't answer in {patience:?}"),
        ))
    };
    tokio::time::timeout(patience, calling).await.unwrap_or_else(late)
}

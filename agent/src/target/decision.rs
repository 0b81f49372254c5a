//! The source's word: waited for, verified, followed.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tracing::{info, warn};
use transship_decision::target::TargetPhase;
use transship_decision::{MigrationId, SignedRecord, Target, Verdict};
use transship_dial::dial;
use transship_proto::v1::source_client::SourceClient;
use transship_proto::v1::{AwaitHeldResponse, FollowedRequest, RecordRequest, State};
use transship_proto::{Fault, Reason};
use transship_transfer::Peer;

use super::arrival::{Arrival, AtWork};
use crate::node::Node;
use crate::plan::{Plan, migration_id};
use crate::pods;
use crate::sign::verify;
use crate::steps::back_off;

/// How long a decision may take to be followed before the carrier is told how far it is.
const FOLLOW: Duration = Duration::from_secs(15);
/// How often the source is told of the end, with pauses that grow to 5 s.
const TRIES: u32 = 12;
/// How long the source may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits until the kubelet has come: it starts a Pod's containers one after another, each when the one before runs, so
/// that only the first waits before there is something to restore.
pub async fn await_waiting(node: &Node, migration: &str) -> Result<(), Fault> {
    let arrival = at_work(node, migration)?;
    let came = arrival.until(|machine| match machine.phase() {
        TargetPhase::Discarded | TargetPhase::Resumed | TargetPhase::Lost => {
            Some(Err(machine.trouble().cloned()))
        }
        _ => arrival.plan.names().any(|name| machine.is_waiting(&name)).then_some(Ok(())),
    });
    came.await.map_err(|trouble| match trouble {
        Some(failure) => Fault::new(failure.reason.parse().unwrap_or(Reason::TargetLost), failure.message),
        None => Fault::new(Reason::TargetLost, "the migration is over on the target"),
    })
}

/// Lets a migration that is as good as over come to its end, and ends one that this node has lost, when nothing of its Pod
/// is up any more. Leaves all else alone.
pub async fn settle(node: &Node, migration: &MigrationId) -> Result<(), Fault> {
    let Some(arrival) = node.arrivals.get(migration) else { return Ok(()) };
    if arrival.phase() == TargetPhase::Lost && !pods::stands(&node.cri, arrival.plan.pod_uid.as_str()).await?
    {
        arrival.tell(Target::abandon);
    }
    if matches!(arrival.phase(), TargetPhase::Resumed | TargetPhase::Discarded) {
        // What doesn't come to its end is told as being at work.
        tokio::time::timeout(FOLLOW, arrival.over.cancelled()).await.ok();
    }
    Ok(())
}

/// Waits until everything is held, or a restore has failed.
pub async fn await_held(node: &Node, migration: &str) -> Result<AwaitHeldResponse, Fault> {
    let arrival = at_work(node, migration)?;
    let ended = arrival.until(|machine| match machine.phase() {
        TargetPhase::Held => Some(Ok(())),
        TargetPhase::Discarded | TargetPhase::Resumed | TargetPhase::Lost => {
            Some(Err(machine.trouble().cloned()))
        }
        _ => machine.trouble().map(|trouble| Err(Some(trouble.clone()))),
    });
    Ok(match ended.await {
        Ok(()) => AwaitHeldResponse::default(),
        Err(trouble) => {
            let trouble = trouble.unwrap_or_else(|| {
                transship_decision::Failure::new(
                    Reason::TargetLost.as_ref(),
                    "the migration is over on the target",
                )
            });
            AwaitHeldResponse {
                reason: trouble.reason,
                message: trouble.message,
                criu_log: arrival.kept_log(),
            }
        }
    })
}

/// Takes a record, whoever carried it, if the migration's source has signed it; answers when it has been followed.
pub async fn decide(node: &Node, carrier: &Peer, record: &[u8]) -> Result<State, Fault> {
    let distrust = |why: String| Fault::new(Reason::RecordNotTrusted, why);
    let signed = SignedRecord::decode(record).map_err(|error| distrust(error.to_string()))?;
    let migration = signed.record().migration().clone();
    let Some(arrival) = node.arrivals.get(&migration) else {
        let own = verify(&signed, &carrier.certificate).is_ok();
        if own && signed.record().verdict() == Verdict::Kept {
            // Its preparation may still be on the way: it is not to come to life after this.
            node.arrivals.refuse(migration.clone());
        }
        return past(node, &migration);
    };
    verify(&signed, &CertificateDer::from(arrival.plan.source_certificate.as_slice()))?;
    follow(&arrival, signed)?;
    let followed = arrival.until(|machine| match machine.phase() {
        TargetPhase::Resumed => Some(State::Resumed),
        TargetPhase::Lost => Some(State::Unknown),
        TargetPhase::Discarded if machine.is_over() => Some(State::Discarded),
        _ => None,
    });
    Ok(tokio::time::timeout(FOLLOW, followed).await.unwrap_or_else(|_| state_of(arrival.phase())))
}

/// How far that migration is here, and the root that is sealed (empty if none is).
pub fn state(node: &Node, migration: &str) -> Result<(State, String), Fault> {
    let migration = migration_id(migration)?;
    match node.arrivals.get(&migration) {
        Some(arrival) => {
            let root = arrival.ask(|machine| machine.root());
            Ok((state_of(arrival.phase()), root.map(|root| root.to_string()).unwrap_or_default()))
        }
        None => Ok((past(node, &migration)?, String::new())),
    }
}

/// Asks the source for its decision and follows it; silence changes nothing.
pub(super) async fn ask_source(node: &Node, arrival: &Arc<AtWork>) {
    let plan = &arrival.plan;
    let asking = async {
        let dialled = dial(&node.identity, &plan.source_address).await?;
        let request = RecordRequest { migration: plan.migration.to_string() };
        let answer = SourceClient::new(dialled.channel).record(request).await.map_err(Fault::from)?;
        let record = answer.into_inner().record;
        if record.is_empty() {
            return Ok(());
        }
        let signed = SignedRecord::decode(&record)
            .map_err(|error| Fault::new(Reason::RecordNotTrusted, error.to_string()))?;
        if signed.record().migration() != &plan.migration {
            return Err(Fault::new(
                Reason::RecordNotTrusted,
                "the source answered with another migration's record",
            ));
        }
        verify(&signed, &CertificateDer::from(plan.source_certificate.as_slice()))?;
        follow(arrival, signed)
    };
    let late = |_| {
        Err(Fault::new(
            Reason::TargetUnreachable,
            format!("the source at {} didn't answer in {ANSWER:?}", plan.source_address),
        ))
    };
    if let Err(fault) = tokio::time::timeout(ANSWER, asking).await.unwrap_or_else(late) {
        info!(migration = %plan.migration, %fault, "the source's decision isn't known yet");
    }
}

/// Tells the source that its `released` has been followed, where no agent is left here that it could ask.
pub async fn tell_source(node: &Node, plan: &Arrival) {
    for failures in 0..TRIES {
        back_off(failures).await;
        let telling = async {
            let dialled = dial(&node.identity, &plan.source_address).await?;
            let request = FollowedRequest { migration: plan.migration.to_string() };
            SourceClient::new(dialled.channel).followed(request).await.map(drop).map_err(Fault::from)
        };
        match telling.await {
            Ok(()) => return,
            Err(fault) => {
                info!(migration = %plan.migration, %fault, "the source can't be told that it runs here")
            }
        }
    }
    warn!(migration = %plan.migration, "the source was not told; it will ask until an agent answers here");
}

fn follow(arrival: &AtWork, signed: SignedRecord) -> Result<(), Fault> {
    info!(migration = %arrival.plan.migration, verdict = %signed.record().verdict(), "the source has decided");
    arrival.carry(signed.clone());
    let told = arrival.tell(|machine| machine.record(signed.record()));
    told.map_err(|error| {
        warn!(migration = %arrival.plan.migration, %error, "a record can't be followed");
        Fault::new(Reason::RecordNotTrusted, error.to_string())
    })
}

/// What became of a migration that isn't at work here any more.
fn past(node: &Node, migration: &MigrationId) -> Result<State, Fault> {
    if !node.state.done_path(migration).exists() {
        // An agent before this one had it: it is about to be taken up, here or by its watchdog's recovery.
        let begun = Plan::load(&node.state, migration)?.is_some();
        return Ok(if begun { State::Recovering } else { State::Unknown });
    }
    let standing =
        node.state.standing(migration).map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    Ok(match standing.map(|record| record.record().verdict()) {
        Some(Verdict::Released) => State::Resumed,
        // Or given up before there was a decision: nothing of it is left.
        Some(Verdict::Kept) | None => State::Discarded,
    })
}

fn at_work(node: &Node, migration: &str) -> Result<Arc<AtWork>, Fault> {
    let unknown =
        || Fault::new(Reason::TargetLost, format!("migration {migration} is not at work on {}", node.name()));
    migration.parse().ok().and_then(|id| node.arrivals.get(&id)).ok_or_else(unknown)
}

fn state_of(phase: TargetPhase) -> State {
    match phase {
        TargetPhase::Expecting | TargetPhase::Receiving => State::Expecting,
        TargetPhase::Sealed | TargetPhase::Restoring => State::Sealed,
        TargetPhase::Held => State::Held,
        TargetPhase::Resumed => State::Resumed,
        TargetPhase::Discarded => State::Discarded,
        TargetPhase::Lost => State::Unknown,
    }
}

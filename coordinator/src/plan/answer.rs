//! What a step's answer changes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use transship_proto::v1::{PreflightResponse, State};

use super::draft::Draft;
use super::settle;
use crate::api::{ConditionType, HANDOVER, Phase, PodMigration, PodMigrationStatus, TargetStatus, condition};
use crate::place::Choice;
use crate::queue::Turn;
use crate::target::Refusal;

/// How long agents that can't be reached may keep a migration from being over.
const FORGETTING: i64 = 10 * 60;

/// How a step ended. Steps that only change an object have no answer: the object tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Of [`Survey`](super::Step::Survey): a node, or why none will do.
    Surveyed(Result<String, Refusal>, Choice),
    /// Of [`Preflight`](super::Step::Preflight).
    Preflight(Box<Result<PreflightResponse, Refusal>>),
    /// Of [`TakeTurn`](super::Step::TakeTurn).
    Turn(Turn),
    /// Of [`Create`](super::Step::Create): refused for good.
    NotCreated(Refusal),
    /// Of any step: it can't be done now, and is tried again.
    Later(Refusal),
    /// Of [`Begin`](super::Step::Begin).
    Begun(Begun),
    /// Of [`Cancel`](super::Step::Cancel).
    Cancelled(Cancelled),
    /// Of [`AskTarget`](super::Step::AskTarget): none if it doesn't know either.
    Target(Option<State>),
    /// Of [`Forget`](super::Step::Forget): done, or what couldn't be reached.
    Forgotten(Result<(), Refusal>),
}

/// How an agent was asked to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The plan lies on its disk.
    Acknowledged,
    /// It won't.
    Refused(Refusal),
    /// No answer: it may have begun.
    Unanswered(Refusal),
}

/// How an agent was asked to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It knows the migration, and the outcome will come.
    Known,
    /// It doesn't know the migration.
    Unknown,
    /// No answer.
    Unanswered(Refusal),
}

/// The status after a step's answer.
pub fn answered(migration: &PodMigration, answer: Answer, now: &Time) -> PodMigrationStatus {
    let mut draft = Draft::new(migration, now);
    match answer {
        Answer::Surveyed(chosen, choice) => {
            draft.status.rejected = choice.rejected;
            match chosen {
                Ok(node) => draft.status.target = Some(TargetStatus { node, ..TargetStatus::default() }),
                Err(why) => draft.refuse(&why),
            }
        }
        Answer::Preflight(said) => match *said {
            Ok(said) => preflighted(&mut draft, said),
            Err(why) => draft.refuse(&why),
        },
        Answer::Turn(Turn::Granted) => {
            draft.say_nothing();
            draft.set(ConditionType::Queued, "False", "Granted", "it has its turn");
        }
        Answer::Turn(Turn::Waits(wait)) => {
            let why = Refusal::new(wait.limit.as_ref(), wait.to_string());
            draft.say(&why);
            draft.set(ConditionType::Queued, "True", &why.reason, &why.message);
        }
        Answer::NotCreated(why) => draft.keep(&why),
        Answer::Later(why) => draft.say(&why),
        Answer::Begun(Begun::Acknowledged) => {
            draft.set(ConditionType::Begun, "True", "Acknowledged", "the source's agent is at work");
        }
        Answer::Begun(Begun::Refused(why)) => draft.keep(&why),
        Answer::Begun(Begun::Unanswered(why)) => draft.say(&why),
        Answer::Cancelled(cancelled) => stopped(&mut draft, cancelled),
        Answer::Target(state) => target(&mut draft, state),
        Answer::Forgotten(forgotten) => over(&mut draft, forgotten),
    }
    draft.status
}

fn preflighted(draft: &mut Draft<'_>, said: PreflightResponse) {
    let capture = said.capture().as_str_name().trim_start_matches("CAPTURE_").to_lowercase();
    draft.status.warnings = said.warnings;
    let mut refusals = said.refusals.into_iter();
    let Some(first) = refusals.next() else {
        let how = format!("captured the {capture} way: {}", said.capture_why);
        return draft.set(ConditionType::Preflighted, "True", "Passed", &how);
    };
    let more = refusals.map(|more| format!("; also {}: {}", more.reason, more.message));
    draft.refuse(&Refusal::new(first.reason, first.message + &more.collect::<String>()));
}

/// A begin that was never acknowledged has no target that could run: its gate still stands. So an agent that doesn't know
/// it, or can't be asked, keeps nobody waiting.
fn stopped(draft: &mut Draft<'_>, cancelled: Cancelled) {
    if draft.is(ConditionType::Begun, "True") {
        return;
    }
    match cancelled {
        Cancelled::Known => {
            draft.set(ConditionType::Begun, "True", "Acknowledged", "the source's agent is at work");
        }
        Cancelled::Unknown | Cancelled::Unanswered(_) => {
            let reason = draft.status.reason.clone().unwrap_or_default();
            let message = draft.status.message.clone().unwrap_or_default();
            draft.keep(&Refusal::new(reason, message));
        }
    }
}

fn target(draft: &mut Draft<'_>, state: Option<State>) {
    match state {
        Some(State::Resumed) => draft.released("the target's processes run, says its own agent"),
        Some(State::Discarded) => {
            let what = "the source's agent has lost the migration, and the target's has discarded its half";
            draft.keep(&Refusal::new("AgentRestarted", what));
        }
        Some(State::Recovering | State::Expecting | State::Sealed | State::Held) => {
            let node = draft.source_node().unwrap_or_default();
            let what =
                format!("the agent of {node} doesn't know the migration, and the target waits for its word");
            draft.say(&Refusal::new("AgentLost", what));
            if draft.time_left().is_some_and(|left| left.is_zero()) {
                draft.lost(HANDOVER);
            }
        }
        Some(State::Unknown) | None => draft.lost(HANDOVER),
    }
}

fn over(draft: &mut Draft<'_>, forgotten: Result<(), Refusal>) {
    if let Err(why) = forgotten {
        let waited = draft.since(ConditionType::Released).map_or(0, |since| since.as_secs());
        if waited < FORGETTING {
            draft.set(ConditionType::Complete, "False", &why.reason, &why.message);
            return;
        }
    }
    if draft.is(ConditionType::Released, "True") {
        return draft.complete(Phase::Succeeded, "Migrated", "the Pod runs on its new node");
    }
    let released = condition(&draft.status, ConditionType::Released).cloned();
    let (reason, message) = released.map(|kept| (kept.reason, kept.message)).unwrap_or_default();
    draft.complete(settle::phase_of(&reason), &reason, &message);
}

//! From the call that begins to the outcome: the source's agent decides, and is listened to.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use transship_proto::v1;

use super::{Observed, Step, Trouble, before, draft::Draft, draft::passed};
use crate::api::{ConditionType, EXPECTED_GATE, Phase};
use crate::target::Refusal;

/// How often an agent that can't be reached is looked for.
const UNREACHABLE: Duration = Duration::from_secs(5);
/// How long kube-scheduler may find no way before that counts: it tries again by itself.
const UNSCHEDULABLE: i64 = 15;

pub fn next(observed: &Observed<'_>, draft: &mut Draft<'_>) -> Step {
    let stop = draft.stop().or_else(|| spoilt(observed));
    if !draft.is(ConditionType::Begun, "True") {
        // Asked, and never answered: the same call again joins, and an agent that hears of an end knows what it has.
        return match stop {
            Some(why) => {
                draft.say(&why);
                Step::Cancel
            }
            None => before::begin(observed, draft),
        };
    }
    let told = observed.told;
    if let Some(outcome) = &told.outcome {
        draft.outcome(outcome, stop);
        return Step::Record;
    }
    match &told.trouble {
        Some(Trouble::Unknown) => return Step::AskTarget,
        Some(Trouble::Unreachable(why)) => {
            let node = draft.source_node().unwrap_or_default();
            let what = format!("how it goes is not known until the agent of {node} answers: {}", why.message);
            draft.say(&Refusal::new("SourceUnreachable", what));
            return Step::Wait(UNREACHABLE);
        }
        None => draft.say_nothing(),
    }
    draft.bytes(told.bytes);
    if !told.warnings.is_empty() {
        draft.status.warnings.clone_from(&told.warnings);
    }
    draft.status.phase = draft.status.phase.max(phase(told.phase));
    if let Some(why) = stop {
        draft.say(&why);
        return Step::Cancel;
    }
    if observed.target.is_some_and(is_gated) {
        return if told.may_go() { Step::Ungate } else { Step::Follow };
    }
    draft.set(ConditionType::Prepared, "True", "Expected", "the target's agent expects the target Pod");
    Step::Follow
}

/// Why it can't come to a good end, by the Pods.
fn spoilt(observed: &Observed<'_>) -> Option<Refusal> {
    let gone = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    let Some(target) = observed.target.filter(|target| !gone(target)) else {
        return Some(Refusal::new("TargetPodGone", "somebody has deleted the target Pod"));
    };
    if observed.source.is_none_or(|source| gone(&source)) {
        return Some(Refusal::new("PodNotRunning", "the Pod was deleted while it was being moved"));
    }
    let status = target.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let why = status.message.as_deref().or(status.reason.as_deref()).unwrap_or("it doesn't say why");
        let what = format!("the target Pod {} has ended: {why}", target.name_any());
        return Some(Refusal::new("TargetPodFailed", what));
    }
    let scheduled = status.conditions.iter().flatten().find(|condition| condition.type_ == "PodScheduled")?;
    let since = scheduled.last_transition_time.as_ref()?;
    let hopeless = scheduled.reason.as_deref() == Some("Unschedulable")
        && passed(since, observed.now).as_secs() >= UNSCHEDULABLE;
    hopeless.then(|| {
        let why = scheduled.message.as_deref().unwrap_or("it doesn't say why");
        Refusal::new("Unschedulable", format!("kube-scheduler finds no way for the target Pod: {why}"))
    })
}

pub fn is_gated(pod: &Pod) -> bool {
    let mut gates = pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten());
    gates.any(|gate| gate.name == EXPECTED_GATE)
}

fn phase(agents: Option<v1::Phase>) -> Phase {
    match agents {
        None | Some(v1::Phase::Unspecified | v1::Phase::Preflight | v1::Phase::Prepare) => Phase::Preparing,
        Some(v1::Phase::Freeze | v1::Phase::Capture | v1::Phase::Transfer) => Phase::Frozen,
        Some(v1::Phase::Restore | v1::Phase::Decide) => Phase::Restoring,
        Some(v1::Phase::Resume | v1::Phase::Retire) => Phase::Released,
    }
}

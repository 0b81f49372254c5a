//! After the outcome: the cluster's objects follow what was decided.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::draft::{CANCELLED, Draft, passed};
use super::{IDLE, Observed, Step};
use crate::api::{ConditionType, HANDOVER, Phase, RESUMED_GATE};
use crate::target::{Refusal, adoption, is_adopted, release};

/// How often a Pod that is going is looked at; its end is told at once.
const GOING: Duration = Duration::from_secs(10);

/// Released: the target takes the source's place.
pub fn hand_over(observed: &Observed<'_>, draft: &mut Draft<'_>) -> Step {
    draft.status.phase = Phase::Released;
    let source = own_source(observed, draft);
    match observed.target.filter(|target| is_target(target, draft)) {
        Some(target) => {
            if !has(target.status.as_ref(), RESUMED_GATE) {
                return Step::MakeReady(ready(target, observed.now));
            }
            if let Some(source) = source.filter(|source| !is_adopted(source, target)) {
                return Step::Adopt(adoption(source, target));
            }
        }
        None => {
            draft.say(&Refusal::new("TargetPodGone", "the target Pod was deleted after it had taken over"))
        }
    }
    draft.set(ConditionType::HandedOver, "True", "Adopted", "the target Pod has taken the source's place");
    if let Some(source) = source {
        if source.metadata.deletion_timestamp.is_some() {
            return Step::Wait(GOING);
        }
        return release(source).map_or(Step::DeleteSource, Step::Release);
    }
    if observed.target.is_some_and(|target| is_marked(target, draft)) {
        return Step::UnmarkTarget;
    }
    Step::Forget(nodes(draft))
}

/// Kept: the source stays as it was.
pub fn clean_up(observed: &Observed<'_>, draft: &mut Draft<'_>) -> Step {
    if draft.standing(ConditionType::Complete).is_none() {
        draft.set(ConditionType::Complete, "False", "CleaningUp", "what was made for the target is removed");
    }
    if let Some(target) = observed.target.filter(|target| is_marked(target, draft)) {
        return match target.metadata.deletion_timestamp {
            Some(_) => Step::Wait(GOING),
            None => Step::DeleteTarget,
        };
    }
    if own_source(observed, draft).is_some_and(|source| is_marked(source, draft)) {
        return Step::UnmarkSource;
    }
    let begun = draft.standing(ConditionType::Begun).is_some();
    Step::Forget(if begun { nodes(draft) } else { Vec::new() })
}

/// The phase of a migration that was kept for that reason.
pub fn phase_of(reason: &str) -> Phase {
    if reason == CANCELLED { Phase::Cancelled } else { Phase::Failed }
}

/// Over: its object is kept for a while.
pub fn finished(observed: &Observed<'_>, draft: &Draft<'_>) -> Step {
    if draft.is_held() {
        return Step::Free;
    }
    if draft.is_deleted() {
        return Step::Wait(IDLE);
    }
    let end = draft.status.completion_time.as_ref().unwrap_or(observed.now);
    let kept = Duration::try_from(passed(end, observed.now)).unwrap_or_default();
    let left = Duration::from(observed.migration.spec.ttl_after_finished).saturating_sub(kept);
    if left.is_zero() { Step::Expire } else { Step::Wait(left) }
}

/// The source, unless it is another Pod that took its name.
fn own_source<'a>(observed: &Observed<'a>, draft: &Draft<'_>) -> Option<&'a Pod> {
    let uid = draft.status.source.as_ref().map(|source| &source.pod_uid);
    observed.source.filter(|source| source.metadata.uid.as_ref() == uid)
}

fn is_target(pod: &Pod, draft: &Draft<'_>) -> bool {
    let uid = draft.status.target.as_ref().and_then(|target| target.pod_uid.as_ref());
    pod.metadata.deletion_timestamp.is_none() && pod.metadata.uid.as_ref() == uid
}

fn is_marked(pod: &Pod, draft: &Draft<'_>) -> bool {
    pod.labels().get(HANDOVER) == draft.migration.metadata.name.as_ref()
}

fn nodes(draft: &Draft<'_>) -> Vec<String> {
    draft.source_node().into_iter().chain(draft.target_node()).collect()
}

fn has(status: Option<&PodStatus>, kind: &str) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == kind && condition.status == "True")
}

/// A strategic merge patch of the status. Ready is set with the gate, since the kubelet would take its time; but only
/// where the containers' own probes say so.
fn ready(target: &Pod, now: &Time) -> Value {
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "lastTransitionTime": now,
            "reason": "Resumed", "message": "the migrated processes run"})
    };
    let mut conditions = vec![condition(RESUMED_GATE)];
    if has(target.status.as_ref(), "ContainersReady") {
        conditions.push(condition("Ready"));
    }
    json!({"metadata": {"uid": target.metadata.uid}, "status": {"conditions": conditions}})
}

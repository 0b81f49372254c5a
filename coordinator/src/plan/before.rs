//! From the request to the call that begins: everything can still be taken back by the coordinator alone.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use transship_proto::v1::{self, BeginRequest, PodIdentity, PreflightRequest};

use super::{IDLE, Observed, Step, draft::Draft};
use crate::api::{Capture, ConditionType, HANDOVER, Phase, SourceStatus, TargetStatus};
use crate::queue::Route;
use crate::target::{Mark, Refusal, build, differences, refusal};

pub fn next(observed: &Observed<'_>, draft: &mut Draft<'_>) -> Step {
    if !draft.is_held() {
        if draft.is_deleted() {
            return Step::Wait(IDLE);
        }
        draft.status.start_time.get_or_insert_with(|| observed.now.clone());
        return Step::Hold;
    }
    if let Some(why) = draft.stop() {
        draft.keep(&why);
        return Step::Record;
    }
    let (source, here) = match source(observed, draft) {
        Ok(found) => found,
        Err(why) if draft.is(ConditionType::Preflighted, "True") => {
            draft.keep(&why);
            return Step::Record;
        }
        Err(why) => {
            draft.refuse(&why);
            return Step::Record;
        }
    };
    let Some(there) = draft.target_node() else {
        draft.status.phase = Phase::Preflight;
        return Step::Survey;
    };
    if !draft.is(ConditionType::Preflighted, "True") {
        let capture = capture(observed.migration.spec.capture).into();
        return Step::Preflight(PreflightRequest {
            pod: Some(identity(source)),
            target: String::new(),
            capture,
        });
    }
    if observed.migration.spec.dry_run {
        let what = format!("it could move from {here} to {there}; nothing was changed (spec.dryRun)");
        draft.say(&Refusal::new("DryRun", &*what));
        draft.complete(Phase::Succeeded, "DryRun", &what);
        return Step::Record;
    }
    if !draft.is(ConditionType::Queued, "False") {
        return Step::TakeTurn(Route { from: here, to: there });
    }
    draft.status.phase = Phase::Preparing;
    if source.labels().get(HANDOVER).is_none() {
        return Step::Mark;
    }
    let mark = Mark {
        migration: &observed.migration.name_any(),
        migration_uid: observed.migration.metadata.uid.as_deref().unwrap_or_default(),
        node: &there,
    };
    let wanted = build(source, mark);
    // Its name is written down first, so that it is found whatever becomes of the source.
    draft.status.target = Some(TargetStatus {
        node: there,
        pod_name: wanted.metadata.name.clone(),
        pod_uid: observed.target.and_then(|target| target.metadata.uid.clone()),
    });
    match observed.target {
        None => Step::Create(Box::new(wanted)),
        Some(target) => match made_well(&wanted, target) {
            Some(why) => {
                draft.keep(&why);
                Step::Record
            }
            None => {
                draft.say_nothing();
                draft.set(ConditionType::Begun, "Unknown", "Asked", "the source's agent is asked to begin");
                begin(observed, draft)
            }
        },
    }
}

/// The Pod that is to be moved, and its node, if it may be.
fn source<'a>(observed: &Observed<'a>, draft: &mut Draft<'_>) -> Result<(&'a Pod, String), Refusal> {
    let wanted = &observed.migration.spec.pod_ref;
    let missing =
        || Refusal::new("PodNotFound", format!("there is no Pod {} in this namespace", wanted.name));
    let pod = observed.source.ok_or_else(missing)?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let known = draft.status.source.as_ref().map(|source| &source.pod_uid).or(wanted.uid.as_ref());
    if let Some(known) = known.filter(|known| **known != uid) {
        let what =
            format!("the Pod {} isn't the one that was meant: its UID is {uid}, not {known}", wanted.name);
        return Err(Refusal::new("PodNotFound", what));
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    draft.status.source = Some(SourceStatus { node: node.clone(), pod_uid: uid });
    match refusal(pod, &observed.migration.name_any()) {
        Some(why) => Err(why),
        None => Ok((pod, node)),
    }
}

/// Why the Pod that the API server has isn't the target, if it isn't.
fn made_well(wanted: &Pod, target: &Pod) -> Option<Refusal> {
    if target.labels().get(HANDOVER) != wanted.labels().get(HANDOVER) {
        let what = format!("a Pod {} is there already and belongs to something else", target.name_any());
        return Some(Refusal::new("TargetNameTaken", what));
    }
    if target.metadata.deletion_timestamp.is_some() {
        return Some(Refusal::new(
            "TargetPodGone",
            format!("somebody deletes the target Pod {}", target.name_any()),
        ));
    }
    let found = differences(wanted, target);
    let first = found.first()?;
    let more = match found.len() {
        1 => String::new(),
        len => format!("; and {} more", len - 1),
    };
    let what = format!("the API server made another Pod of it: {first}{more}");
    Some(Refusal::new("TargetDiffers", what))
}

/// The call that begins. Its target's address is the cluster's to know.
pub fn begin(observed: &Observed<'_>, draft: &Draft<'_>) -> Step {
    let spec = &observed.migration.spec;
    let ms = |span: std::time::Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX).max(1);
    let namespace = observed.migration.namespace().unwrap_or_default();
    let pod = |name: &str, uid: &str| {
        Some(PodIdentity { namespace: namespace.clone(), name: name.into(), uid: uid.into() })
    };
    let source_uid = draft.status.source.as_ref().map(|source| source.pod_uid.as_str());
    let target = draft.status.target.as_ref();
    Step::Begin(BeginRequest {
        migration: observed.migration.metadata.uid.clone().unwrap_or_default(),
        source: pod(&spec.pod_ref.name, source_uid.unwrap_or_default()),
        target_pod: pod(
            target.and_then(|target| target.pod_name.as_deref()).unwrap_or_default(),
            target.and_then(|target| target.pod_uid.as_deref()).unwrap_or_default(),
        ),
        target: String::new(),
        target_node: draft.target_node().unwrap_or_default(),
        capture: capture(spec.capture).into(),
        freeze_budget_ms: ms(spec.freeze_budget.into()),
        timeout_ms: ms(draft.time_left().unwrap_or_default()),
    })
}

fn identity(pod: &Pod) -> PodIdentity {
    PodIdentity {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    }
}

fn capture(asked: Capture) -> v1::Capture {
    match asked {
        Capture::Auto => v1::Capture::Auto,
        Capture::Kubelet => v1::Capture::Cri,
        Capture::Direct => v1::Capture::Direct,
    }
}

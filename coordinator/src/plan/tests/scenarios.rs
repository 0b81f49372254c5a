use std::time::Duration;

use serde_json::json;
use transship_proto::v1::{Outcome, State};

use super::world::{World, pod, restore_failed};
use crate::api::{Phase, RESUMED_GATE};
use crate::plan::{Told, Trouble};
use crate::target::Refusal;

#[test]
fn a_pod_moves_in_that_order() {
    let mut world = World::new();
    world.run().assert_settled(Phase::Succeeded);
    let steps: Vec<_> = world.steps.iter().map(String::as_str).filter(|step| *step != "Record").collect();
    assert_eq!(
        steps,
        [
            "Hold",
            "Survey",
            "Preflight",
            "TakeTurn",
            "Mark",
            "Create",
            "Begin",
            "Follow",
            "Ungate",
            "Follow",
            "MakeReady",
            "Adopt",
            "DeleteSource",
            "UnmarkTarget",
            "Forget",
            "Free"
        ]
    );
    let status = world.status();
    assert_eq!(status.freeze_duration.unwrap(), Duration::from_millis(300));
    assert_eq!((status.reason, status.message), (None, None));
    assert_eq!(status.target.unwrap().pod_uid.as_deref(), Some("t-uid"));
}

#[test]
fn a_failed_restore_leaves_the_source_as_it_was() {
    let mut world = World { ending: restore_failed, ..World::new() };
    let before = world.source.clone();
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.source, before);
    assert_eq!(world.status().reason.as_deref(), Some("RestoreFailed"));
}

/// The answer of each step in turn is lost with the coordinator that did it.
#[test]
fn a_coordinator_that_ends_after_any_step_is_followed_by_one_that_goes_on() {
    let len = World::new().run().steps.len();
    for lost in 1..=len {
        World { lost: Some(lost), ..World::new() }.run().assert_settled(Phase::Succeeded);
        World { lost: Some(lost), ending: restore_failed, ..World::new() }
            .run()
            .assert_settled(Phase::Failed);
    }
}

/// Whenever somebody asks for the end, there is one, and one Pod.
#[test]
fn a_cancel_at_any_step_ends_with_one_pod() {
    let len = World::new().run().steps.len();
    for at in 0..len {
        let mut world = World::new();
        for _ in 0..at {
            world.step();
        }
        let released =
            world.agent.as_ref().is_some_and(Option::is_some) || world.condition("Released") == "True";
        world.migration.spec.cancel = true;
        let end = if released { Phase::Succeeded } else { Phase::Cancelled };
        world.run().assert_settled(end);
    }
}

#[test]
fn a_deletion_waits_for_the_agent_and_cleans_up() {
    let mut world = World::new();
    world.until("Ungate");
    world.migration.metadata.deletion_timestamp = Some(world.now());
    world.run().assert_settled(Phase::Cancelled);
    assert_eq!(world.migration.metadata.finalizers, None, "it may go");
}

#[test]
fn what_the_pod_alone_says_is_refused_without_a_trace() {
    let mut world = World::new();
    world.change_source(|source| source["spec"]["hostNetwork"] = json!(true));
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("HostNamespace"));
    assert_eq!(world.condition("Preflighted"), "False");
    assert!(!world.steps.contains(&"Mark".into()));
}

#[test]
fn a_pod_that_is_not_there_is_refused() {
    let mut world = World::new();
    world.source = None;
    world.run();
    assert_eq!(world.status().reason.as_deref(), Some("PodNotFound"));
    let mut world = World::new();
    world.migration.spec.pod_ref.uid = Some("another".into());
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("PodNotFound"));
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = World::new();
    world.migration.spec.dry_run = true;
    let before = world.source.clone();
    world.run();
    assert_eq!((world.status().phase, world.status().reason.as_deref()), (Phase::Succeeded, Some("DryRun")));
    assert_eq!((world.source.as_ref(), world.target.as_ref()), (before.as_ref(), None));
}

#[test]
fn a_target_that_was_admitted_otherwise_goes_again_before_anything_begins() {
    let mut world =
        World { admit: |pod| pod["spec"]["containers"][0]["image"] = json!("mesh:2"), ..World::new() };
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("TargetDiffers"));
    assert!(world.status().message.unwrap().contains("spec.containers[main].image"));
    assert!(!world.steps.contains(&"Begin".into()));
}

#[test]
fn a_name_that_is_taken_is_not_taken_away() {
    let mut world = World::new();
    world.until("Mark");
    let stranger =
        pod(json!({"metadata": {"name": "web-1-x", "uid": "x", "labels": {}}, "spec": {"containers": []}}));
    world.target = Some(stranger.clone());
    world.run();
    assert_eq!(world.status().reason.as_deref(), Some("TargetNameTaken"));
    assert_eq!(world.target, Some(stranger));
}

#[test]
fn an_agent_that_refuses_to_begin_leaves_no_target() {
    let mut world = World { refuse_begin: Some(Refusal::new("NoSourceFence", "")), ..World::new() };
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("NoSourceFence"));
}

#[test]
fn an_agent_that_never_answers_is_given_up_at_the_timeout_since_the_gate_still_stands() {
    let mut world = World { agent_answers: false, ..World::new() };
    world.until("Begin");
    world.step();
    assert_eq!(world.steps.last().map(String::as_str), Some("Begin"), "the same call again");
    world.wait(Duration::from_secs(601));
    world.until("Forget");
    assert_eq!(world.target, None);
    world.wait(Duration::from_secs(601));
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("TimedOut"));
}

#[test]
fn nothing_is_decided_for_an_agent_that_is_away() {
    let mut world = World::new();
    world.until("Ungate");
    world.told =
        Told { trouble: Some(Trouble::Unreachable(Refusal::new("x", "no route"))), ..Told::default() };
    world.wait(Duration::from_secs(3600));
    for _ in 0..5 {
        world.step();
        assert_eq!(world.steps.last().map(String::as_str), Some("Wait"));
    }
    assert!(world.source.is_some() && world.target.is_some());
    assert_eq!(world.status().reason.as_deref(), Some("SourceUnreachable"));
}

#[test]
fn an_agent_that_has_forgotten_is_replaced_by_the_target_s_word() {
    let cases = [(Some(State::Resumed), Phase::Succeeded), (Some(State::Discarded), Phase::Failed)];
    for (state, end) in cases {
        let mut world = World { target_state: state, ..World::new() };
        world.until("Ungate");
        world.agent = None;
        world.told = Told { trouble: Some(Trouble::Unknown), ..Told::default() };
        world.run().assert_settled(end);
    }
}

#[test]
fn where_nobody_knows_both_pods_are_left() {
    let mut world = World::new();
    world.until("Ungate");
    world.agent = None;
    world.told = Told { trouble: Some(Trouble::Unknown), ..Told::default() };
    world.run();
    assert_eq!((world.status().phase, world.status().reason.as_deref()), (Phase::Failed, Some("AgentLost")));
    assert!(world.source.is_some() && world.target.is_some());
}

#[test]
fn a_target_that_kube_scheduler_has_no_room_for_is_given_up() {
    let mut world = World::new();
    world.until("Ungate");
    let now = world.now();
    world.change_target(|target| {
        target["spec"].as_object_mut().unwrap().remove("nodeName");
        target["status"] = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/2 nodes", "lastTransitionTime": now}]});
    });
    world.step();
    assert_eq!(world.steps.last().map(String::as_str), Some("Follow"), "it may find room yet");
    world.wait(Duration::from_secs(20));
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("Unschedulable"));
}

#[test]
fn a_target_that_was_deleted_is_the_end_of_it() {
    let mut world = World::new();
    world.until("Ungate");
    world.target = None;
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.status().reason.as_deref(), Some("TargetPodGone"));
}

#[test]
fn what_the_agent_refuses_after_all_is_a_refusal() {
    let refused = |_: &World| Outcome { reason: "IoUring".into(), refused: true, ..Outcome::default() };
    let mut world = World { ending: refused, ..World::new() };
    world.run().assert_settled(Phase::Failed);
    assert_eq!(world.condition("Preflighted"), "False");
}

#[test]
fn a_target_whose_probes_say_no_is_not_called_ready() {
    let mut world = World::new();
    world.until("Ungate");
    world.change_target(|target| target["status"]["conditions"] = json!([]));
    world.until("MakeReady");
    let conditions = serde_json::to_value(&world.target.unwrap().status).unwrap()["conditions"].clone();
    assert_eq!(conditions.as_array().unwrap().len(), 1);
    assert_eq!(conditions[0]["type"], RESUMED_GATE);
}

#[test]
fn a_finished_migration_is_kept_for_its_time() {
    let mut world = World::new();
    world.run();
    world.step();
    assert!(!world.gone);
    world.wait(Duration::from_secs(24 * 3600));
    world.step();
    assert!(world.gone);
}

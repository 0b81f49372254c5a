use super::*;
use crate::{By, UnixMillis};

const ROOT: Root = Root([1; 32]);

fn failure() -> Failure {
    Failure::new("Broken", "on purpose")
}

fn record(verdict: Verdict) -> Record {
    let (id, pod, at) = ("m-1".parse().unwrap(), "pod-1".parse().unwrap(), UnixMillis(0));
    match verdict {
        Verdict::Released => Record::released(id, pod, ROOT, By::Agent, at),
        Verdict::Kept => Record::kept(id, pod, failure(), By::Agent, at),
    }
}

fn expecting() -> Target {
    Target::new(["main".to_owned(), "side".to_owned()])
}

fn sealed() -> Target {
    let mut target = expecting();
    target.receiving();
    target.sealed(ROOT);
    target
}

fn held() -> Target {
    let mut target = sealed();
    for (n, name) in ["main", "side"].into_iter().enumerate() {
        assert_eq!(target.asked(name, Ask(n as u64)), Answer::Restore);
        target.restore_ended(name, Ok(()));
    }
    assert_eq!(target.phase(), TargetPhase::Held);
    target
}

/// Does all that is to be done and returns it.
fn drain(target: &mut Target) -> Vec<TargetStep> {
    let mut steps = Vec::new();
    while let Some(step) = target.next() {
        assert!(steps.len() < 20, "no end: {steps:?}");
        target.finished(&step, Ok(()));
        steps.push(step);
    }
    steps
}

#[test]
fn a_create_waits_for_the_seal_and_then_restores() {
    let mut target = expecting();
    assert_eq!(target.phase(), TargetPhase::Expecting);
    assert_eq!(target.asked("main", Ask(1)), Answer::Wait);
    target.receiving();
    assert_eq!(target.asked("main", Ask(1)), Answer::Wait);
    assert_eq!(target.phase(), TargetPhase::Receiving);
    target.sealed(ROOT);
    assert_eq!(target.phase(), TargetPhase::Sealed);
    assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    assert_eq!(target.phase(), TargetPhase::Restoring);
    assert_eq!(target.next(), None, "nothing runs without a record");
}

#[test]
fn all_run_when_all_are_held_and_released() {
    let mut target = held();
    assert_eq!(target.next(), None, "nothing runs without a record");
    target.record(&record(Verdict::Released)).unwrap();
    let steps = drain(&mut target);
    assert_eq!(steps, [TargetStep::Adopt, TargetStep::LowerExpected, TargetStep::Resume, TargetStep::Clean]);
    assert_eq!(target.phase(), TargetPhase::Resumed);
    assert!(target.is_over());
    assert_eq!(target.asked("main", Ask(9)), Answer::Create, "a later crash is an ordinary restart");
}

#[test]
fn released_before_all_are_held_waits_for_the_last() {
    let mut target = sealed();
    target.record(&record(Verdict::Released)).unwrap();
    assert_eq!(drain(&mut target), [TargetStep::Adopt]);
    assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    target.restore_ended("main", Ok(()));
    assert_eq!(target.next(), None);
    assert_eq!(target.absent().collect::<Vec<_>>(), ["side"]);
    assert_eq!(target.asked("side", Ask(2)), Answer::Restore);
    target.restore_ended("side", Ok(()));
    assert_eq!(target.next(), Some(TargetStep::LowerExpected));
}

#[test]
fn a_restore_that_fails_is_cleared_away_and_done_again() {
    let mut target = sealed();
    assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    target.restore_ended("main", Err(failure()));
    assert_eq!(target.trouble(), Some(&failure()));
    assert_eq!(target.asked("main", Ask(2)), Answer::Wait, "what is left must go first");
    assert_eq!(drain(&mut target), [TargetStep::Remove("main".into())]);
    assert_eq!(target.asked("main", Ask(2)), Answer::Restore);
}

#[test]
fn a_held_container_that_is_killed_or_asked_for_again_is_restored_again() {
    let mut target = held();
    target.died("main");
    assert_eq!(drain(&mut target), [TargetStep::Remove("main".into())]);
    assert_eq!(target.asked("main", Ask(7)), Answer::Restore);
    target.restore_ended("main", Ok(()));
    assert_eq!(target.phase(), TargetPhase::Held);

    target.record(&record(Verdict::Released)).unwrap();
    assert_eq!(target.asked("side", Ask(8)), Answer::Wait);
    let steps = drain(&mut target);
    assert_eq!(steps, [TargetStep::Adopt, TargetStep::Remove("side".into())]);
    assert_eq!(target.asked("side", Ask(8)), Answer::Restore);
}

#[test]
fn a_second_wrapper_takes_the_place_of_the_first() {
    let mut target = sealed();
    assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    assert_eq!(target.asked("main", Ask(2)), Answer::Wait);
    target.restore_ended("main", Ok(()));
    assert_eq!(target.next(), Some(TargetStep::Remove("main".into())));
    target.wrapper_gone(Ask(2));
    drain(&mut target);
    assert_eq!(target.absent().collect::<Vec<_>>(), ["main", "side"]);
}

#[test]
fn once_they_are_to_run_nothing_is_restored_any_more() {
    let mut target = held();
    target.record(&record(Verdict::Released)).unwrap();
    target.finished(&TargetStep::Adopt, Ok(()));
    target.finished(&TargetStep::LowerExpected, Ok(()));
    target.died("main");
    assert_eq!(target.asked("main", Ask(9)), Answer::Wait);
    assert_eq!(target.next(), Some(TargetStep::Resume));
    target.finished(&TargetStep::Resume, Ok(()));
    assert_eq!(target.asked("main", Ask(9)), Answer::Create);
}

#[test]
fn kept_discards_at_every_stage_and_the_marker_goes_last() {
    for mut target in [expecting(), sealed(), held()] {
        target.record(&record(Verdict::Kept)).unwrap();
        assert!(matches!(target.asked("main", Ask(5)), Answer::Refuse(_)));
        let steps = drain(&mut target);
        let expected = [TargetStep::Adopt, TargetStep::Discard, TargetStep::LowerExpected, TargetStep::Clean];
        assert_eq!(steps, expected);
        assert_eq!(target.phase(), TargetPhase::Discarded);
    }
}

#[test]
fn only_an_unsealed_target_gives_up_by_itself() {
    let mut target = expecting();
    assert_eq!(target.give_up(failure()), Heard::Undoing);
    target.sealed(ROOT);
    assert_eq!(target.root(), None, "it must not be told as sealed any more");
    assert_eq!(drain(&mut target)[0], TargetStep::Discard);
    assert_eq!(sealed().give_up(failure()), Heard::TooLate);
    assert_eq!(held().give_up(failure()), Heard::TooLate);
}

#[test]
fn a_record_for_something_else_is_refused() {
    let mut target = held();
    let other = Record::released(
        "m-1".parse().unwrap(),
        "pod-1".parse().unwrap(),
        Root([2; 32]),
        By::Agent,
        UnixMillis(0),
    );
    assert!(matches!(target.record(&other), Err(RecordRefused::OtherTree { .. })));
    assert_eq!(target.next(), None);
    target.record(&record(Verdict::Released)).unwrap();
    assert!(matches!(target.record(&record(Verdict::Kept)), Err(RecordRefused::Conflict { .. })));
    target.record(&record(Verdict::Released)).unwrap();
}

#[test]
fn lost_images_fail_closed() {
    let mut target = sealed();
    target.images_lost(failure());
    target.record(&record(Verdict::Released)).unwrap();
    assert_eq!(drain(&mut target), [TargetStep::Adopt]);
    assert_eq!(target.phase(), TargetPhase::Lost);
    assert!(matches!(target.asked("main", Ask(1)), Answer::Refuse(f) if f.reason == "ImagesLost"));
    assert_eq!(target.absent().count(), 0);
}

#[test]
fn a_step_that_fails_comes_again() {
    let mut target = held();
    target.record(&record(Verdict::Released)).unwrap();
    for n in 1..4 {
        target.finished(&TargetStep::Adopt, Err(failure()));
        assert_eq!((target.next(), target.failures_in_a_row()), (Some(TargetStep::Adopt), n));
    }
    target.finished(&TargetStep::Resume, Ok(()));
    assert_eq!(target.next(), Some(TargetStep::Adopt), "out of turn");
}

#[test]
fn a_container_that_is_not_in_the_plan_is_refused() {
    assert!(matches!(sealed().asked("other", Ask(1)), Answer::Refuse(f) if f.reason == "UnknownContainer"));
}

mod recovery {
    use super::*;

    fn facts(main: ContainerFacts, expected: Expected, verdict: Option<Verdict>) -> TargetFacts {
        TargetFacts { containers: vec![("main".into(), main)], expected, verdict, sealed: Some(ROOT) }
    }

    #[test]
    fn sealed_goes_on_from_what_is_there() {
        let mut target = Target::recover(facts(ContainerFacts::Held, Expected::Up, None));
        assert_eq!((target.phase(), target.next()), (TargetPhase::Held, None));
        target.record(&record(Verdict::Released)).unwrap();
        assert_eq!(drain(&mut target).len(), 4);

        let mut target = Target::recover(facts(ContainerFacts::Unclear, Expected::Up, None));
        assert_eq!(drain(&mut target), [TargetStep::Remove("main".into())]);
        assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    }

    #[test]
    fn released_and_still_expected_has_not_run() {
        let released = Some(Verdict::Released);
        let mut target = Target::recover(facts(ContainerFacts::Absent, Expected::Up, released));
        assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    }

    #[test]
    fn released_and_no_longer_expected_may_have_run() {
        for found in [ContainerFacts::Held, ContainerFacts::Absent, ContainerFacts::Unclear] {
            let mut target = Target::recover(facts(found, Expected::Down, Some(Verdict::Released)));
            assert_ne!(target.asked("main", Ask(1)), Answer::Restore);
            assert_eq!(drain(&mut target), [TargetStep::Resume, TargetStep::Clean]);
        }
    }

    #[test]
    fn kept_is_carried_through() {
        let kept = Some(Verdict::Kept);
        let mut target = Target::recover(facts(ContainerFacts::Held, Expected::Up, kept));
        assert_eq!(drain(&mut target), [TargetStep::Discard, TargetStep::LowerExpected, TargetStep::Clean]);
        let mut target = Target::recover(facts(ContainerFacts::Absent, Expected::Down, kept));
        assert_eq!(drain(&mut target), [TargetStep::Discard, TargetStep::Clean]);
    }

    #[test]
    fn never_marked_is_discarded() {
        let mut target = Target::recover(facts(ContainerFacts::Absent, Expected::Down, None));
        assert_eq!(target.phase(), TargetPhase::Discarded);
        assert_eq!(drain(&mut target).last(), Some(&TargetStep::Clean));
    }
}

#[test]
fn the_reason_of_a_failed_restore_is_not_lost_to_the_runtime_s_own() {
    let mut target = sealed();
    assert_eq!(target.asked("main", Ask(1)), Answer::Restore);
    target.create_failed("main", Failure::new("RuntimeError", "OCI runtime create failed"));
    assert_eq!((target.phase(), target.trouble()), (TargetPhase::Restoring, None));
    target.restore_ended("main", Err(failure()));
    assert_eq!(target.trouble(), Some(&failure()));
    assert_eq!(target.next(), Some(TargetStep::Remove("main".into())));
}

#[test]
fn only_what_is_lost_can_be_abandoned() {
    let mut whole = held();
    whole.abandon();
    assert_eq!(whole.phase(), TargetPhase::Held);

    let mut lost = expecting();
    lost.record(&record(Verdict::Released)).unwrap();
    assert_eq!(drain(&mut lost), [TargetStep::Adopt]);
    assert_eq!(lost.phase(), TargetPhase::Lost);
    assert!(!lost.is_over());
    lost.abandon();
    assert_eq!(drain(&mut lost), [TargetStep::Discard, TargetStep::LowerExpected, TargetStep::Clean]);
    assert!(lost.is_over());
}

use super::*;
use crate::{By, UnixMillis};

fn failure() -> Failure {
    Failure::new("Broken", "on purpose")
}

fn record(verdict: Verdict) -> Record {
    let (id, pod, at) = ("m-1".parse().unwrap(), "pod-1".parse().unwrap(), UnixMillis(0));
    match verdict {
        Verdict::Released => Record::released(id, pod, Root([1; 32]), By::Agent, at),
        Verdict::Kept => {
            Record::kept(id, pod, Failure::new("FreezeBudgetExceeded", "late"), By::Watchdog, at)
        }
    }
}

/// How a step ends where all goes well and every wish to decide is granted.
fn well(step: Step) -> Outcome {
    match step {
        Step::Seal => Outcome::Sealed(Root([1; 32])),
        Step::Decide(verdict) => Outcome::Stands(record(verdict)),
        Step::AskTarget => Outcome::Target(TargetReport::Sealed(Root([1; 32]))),
        _ => Outcome::Done,
    }
}

/// Runs to the end and returns the steps taken; `outcome` may answer otherwise than well.
fn run(source: &mut Source, mut outcome: impl FnMut(Step) -> Option<Outcome>) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = source.next() {
        assert!(steps.len() < 100, "no end: {steps:?}");
        steps.push(step);
        let outcome = outcome(step).unwrap_or_else(|| well(step));
        source.finished(step, outcome).unwrap();
    }
    steps
}

fn until(source: &mut Source, last: Step) {
    while let Some(step) = source.next().filter(|step| *step != last) {
        source.finished(step, well(step)).unwrap();
    }
    assert_eq!(source.next(), Some(last));
}

const FORWARD: [Step; 10] = [
    Step::Preflight,
    Step::Prepare,
    Step::PreCopy,
    Step::StartWatchdog,
    Step::RaiseFence,
    Step::Freeze,
    Step::Capture,
    Step::Seal,
    Step::AwaitHeld,
    Step::CheckStill,
];

const KEPT: [Step; 7] = [
    Step::Decide(Verdict::Kept),
    Step::EndCapture,
    Step::Thaw,
    Step::Sweep,
    Step::LowerFence,
    Step::Discard,
    Step::Clean,
];

const RELEASED: [Step; 7] = [
    Step::Decide(Verdict::Released),
    Step::Go,
    Step::Kill,
    Step::Carry,
    Step::Retire,
    Step::LowerFence,
    Step::Clean,
];

#[test]
fn all_goes_well() {
    let mut source = Source::new();
    let steps = run(&mut source, |_| None);
    assert_eq!(steps, [&FORWARD[..], &RELEASED[..]].concat());
    assert_eq!(source.ending(), Some(Ending::Succeeded));
    assert_eq!(source.phase(), Phase::Succeeded);
}

#[test]
fn a_failure_anywhere_undoes_what_was_begun_and_no_more() {
    for (n, broken) in FORWARD.iter().enumerate() {
        let mut source = Source::new();
        let steps = run(&mut source, |step| (step == *broken).then(|| Outcome::Failed(failure())));
        let back = &steps[n + 1..];
        let expected: Vec<Step> = match n {
            0 => vec![],
            1..=3 => vec![KEPT[0], Step::Discard, Step::Clean],
            4 => vec![KEPT[0], Step::LowerFence, Step::Discard, Step::Clean],
            _ => KEPT.to_vec(),
        };
        assert_eq!(back, expected, "after {broken:?}");
        assert_eq!(source.ending(), Some(Ending::Failed(failure())));
    }
}

#[test]
fn a_refusal_is_no_failure() {
    for refused in [Step::Preflight, Step::Prepare] {
        let mut source = Source::new();
        run(&mut source, |step| (step == refused).then(|| Outcome::Refused(failure())));
        assert_eq!(source.ending(), Some(Ending::Refused(failure())));
    }
    let mut source = Source::new();
    until(&mut source, Step::Freeze);
    assert!(source.finished(Step::Freeze, Outcome::Refused(failure())).is_err());
}

#[test]
fn a_cancel_before_the_decision_is_heard_at_every_step() {
    for step in &FORWARD[1..] {
        let mut source = Source::new();
        until(&mut source, *step);
        assert_eq!(source.cancel(), Heard::Undoing);
        assert_eq!(source.next(), Some(KEPT[0]));
        assert!(source.finished(*step, well(*step)).is_err(), "the step that was dropped is over");
        run(&mut source, |_| None);
        assert_eq!(source.ending(), Some(Ending::Cancelled));
        assert_eq!(source.phase(), Phase::Cancelled);
    }
}

#[test]
fn after_released_nothing_turns_back() {
    for step in RELEASED {
        let mut source = Source::new();
        until(&mut source, Step::CheckStill);
        until(&mut source, step);
        assert_eq!(source.cancel(), Heard::TooLate);
        assert_eq!(source.fail(failure()), Heard::TooLate);
        assert_eq!(source.source_gone(failure()), Heard::TooLate);
        assert_eq!(source.next(), Some(step));
        let rest = run(&mut source, |_| None);
        assert!(!rest.contains(&Step::Thaw));
        assert_eq!(source.ending(), Some(Ending::Succeeded));
    }
}

#[test]
fn the_record_that_stands_is_followed_whatever_was_wished() {
    let mut source = Source::new();
    until(&mut source, Step::Decide(Verdict::Released));
    let steps = run(&mut source, |step| {
        matches!(step, Step::Decide(_)).then(|| Outcome::Stands(record(Verdict::Kept)))
    });
    assert_eq!(steps[1..], KEPT[1..]);
    assert!(matches!(source.ending(), Some(Ending::Failed(f)) if f.reason == "FreezeBudgetExceeded"));

    let mut source = Source::new();
    until(&mut source, Step::AwaitHeld);
    source.cancel();
    let steps = run(&mut source, |step| {
        matches!(step, Step::Decide(_)).then(|| Outcome::Stands(record(Verdict::Released)))
    });
    assert_eq!(steps[1..], RELEASED[1..]);
    assert_eq!(source.ending(), Some(Ending::Succeeded));
}

#[test]
fn what_cannot_be_released_is_kept_and_asked_until_it_is() {
    let mut source = Source::new();
    until(&mut source, Step::Decide(Verdict::Released));
    let mut tries = 0;
    let steps = run(&mut source, |step| {
        tries += 1;
        (matches!(step, Step::Decide(_)) && tries < 5).then(|| Outcome::Failed(failure()))
    });
    assert_eq!(steps[..5], [RELEASED[0], KEPT[0], KEPT[0], KEPT[0], KEPT[0]]);
    assert_eq!(steps[5..], KEPT[1..]);
}

#[test]
fn kill_and_carry_do_not_wait_for_each_other() {
    let mut source = Source::new();
    until(&mut source, Step::Go);
    let mut kills = 0;
    let steps = run(&mut source, |step| match step {
        Step::Go => Some(Outcome::Failed(failure())),
        Step::Kill => {
            kills += 1;
            (kills < 3).then(|| Outcome::Failed(failure()))
        }
        _ => None,
    });
    let expected = [
        Step::Go,
        Step::Kill,
        Step::Carry,
        Step::Kill,
        Step::Kill,
        Step::Retire,
        Step::LowerFence,
        Step::Clean,
    ];
    assert_eq!(steps, expected);
    let mut source = Source::new();
    until(&mut source, Step::Carry);
    for n in 1..4 {
        source.finished(Step::Carry, Outcome::Failed(failure())).unwrap();
        assert_eq!(source.next(), Some(Step::Carry));
        assert_eq!(source.failures_in_a_row(), n);
    }
}

#[test]
fn a_capture_that_will_not_end_is_thawed_and_thawed_again_after_it() {
    let mut source = Source::new();
    until(&mut source, Step::Capture);
    let mut tries = 0;
    let steps = run(&mut source, |step| match step {
        Step::Capture => Some(Outcome::Failed(failure())),
        Step::EndCapture => {
            tries += 1;
            (tries == 1).then(|| Outcome::Failed(failure()))
        }
        _ => None,
    });
    let (end, thaw) = (Step::EndCapture, Step::Thaw);
    assert_eq!(steps[1..7], [KEPT[0], end, thaw, end, thaw, Step::Sweep]);
}

#[test]
fn what_fails_on_the_way_back_is_told() {
    let mut source = Source::new();
    until(&mut source, Step::Freeze);
    run(&mut source, |step| {
        matches!(step, Step::Freeze | Step::Sweep | Step::Discard | Step::Clean)
            .then(|| Outcome::Failed(failure()))
    });
    let left: Vec<Step> = source.leftovers().iter().map(|(step, _)| *step).collect();
    assert_eq!(left, [Step::Sweep, Step::Discard, Step::Clean]);
}

#[test]
fn a_source_that_died_frozen_lives_on_in_a_sealed_target() {
    for (step, heard) in [
        (Step::Capture, Heard::Undoing),
        (Step::Seal, Heard::Undoing),
        (Step::AwaitHeld, Heard::Releasing),
        (Step::CheckStill, Heard::Releasing),
    ] {
        let mut source = Source::new();
        until(&mut source, step);
        assert_eq!(source.source_gone(failure()), heard, "in {step:?}");
    }
    let mut source = Source::new();
    until(&mut source, Step::AwaitHeld);
    source.source_gone(failure());
    let wish = Step::Decide(Verdict::Released);
    source.finished(wish, Outcome::Failed(failure())).unwrap();
    assert_eq!(source.next(), Some(wish), "there is nothing that could be kept");
}

#[test]
fn a_target_that_lost_the_images_ends_it_and_leaves_the_fence() {
    let mut source = Source::new();
    until(&mut source, Step::Carry);
    let steps = run(&mut source, |step| (step == Step::Carry).then(|| Outcome::Lost(failure())));
    assert_eq!(steps, [Step::Carry, Step::Clean]);
    assert_eq!(source.ending(), Some(Ending::Lost(failure())));

    let mut source = Source::new();
    until(&mut source, Step::Kill);
    source.finished(Step::Kill, Outcome::Failed(failure())).unwrap();
    let steps = run(&mut source, |step| (step == Step::Carry).then(|| Outcome::Lost(failure())));
    assert_eq!(steps, [Step::Carry, Step::Kill, Step::Clean], "released is for ever");
}

mod recovery {
    use super::*;

    const SEALED: TargetReport = TargetReport::Sealed(Root([1; 32]));

    fn recovered(
        record: Option<Record>,
        fence: Fence,
        processes: Processes,
        target: TargetReport,
    ) -> (Source, Vec<Step>) {
        let mut source = Source::recover(&Facts { record: record.clone(), fence, processes, target });
        let steps = run(&mut source, |step| match (step, &record) {
            (Step::Decide(_), Some(record)) => Some(Outcome::Stands(record.clone())),
            _ => None,
        });
        (source, steps)
    }

    #[test]
    fn undecided_with_processes_is_kept() {
        for processes in [Processes::Running, Processes::Frozen] {
            let (source, steps) = recovered(None, Fence::Up, processes, SEALED);
            assert_eq!(steps, KEPT);
            assert!(matches!(source.ending(), Some(Ending::Failed(f)) if f.reason == "AgentDied"));
        }
    }

    #[test]
    fn undecided_without_processes_is_what_the_target_holds() {
        let (_, steps) = recovered(None, Fence::Up, Processes::Gone, SEALED);
        assert_eq!(steps, RELEASED);
        let (_, steps) = recovered(None, Fence::Up, Processes::Gone, TargetReport::Unsealed);
        assert_eq!(steps, KEPT);
        let (_, steps) = recovered(None, Fence::Up, Processes::Gone, TargetReport::Unknown);
        assert_eq!(steps[0], Step::AskTarget);
        assert_eq!(steps[1..], RELEASED);
    }

    #[test]
    fn without_a_fence_nothing_was_frozen() {
        let (_, steps) = recovered(None, Fence::Down, Processes::Gone, SEALED);
        assert_eq!(steps, [KEPT[0], Step::LowerFence, Step::Discard, Step::Clean]);
    }

    #[test]
    fn a_record_is_followed() {
        let (source, steps) =
            recovered(Some(record(Verdict::Released)), Fence::Up, Processes::Frozen, SEALED);
        assert_eq!(steps[1..], RELEASED[1..]);
        assert_eq!(source.ending(), Some(Ending::Succeeded));
        let (source, steps) = recovered(Some(record(Verdict::Kept)), Fence::Up, Processes::Frozen, SEALED);
        assert_eq!(steps, KEPT);
        assert!(matches!(source.ending(), Some(Ending::Failed(f)) if f.reason == "FreezeBudgetExceeded"));
    }

    #[test]
    fn a_silent_target_is_asked_again_until_a_person_gives_it_up() {
        let facts = Facts {
            record: None,
            fence: Fence::Up,
            processes: Processes::Gone,
            target: TargetReport::Unknown,
        };
        let mut source = Source::recover(&facts);
        for n in 1..4 {
            source.finished(Step::AskTarget, Outcome::Target(TargetReport::Unknown)).unwrap();
            assert_eq!((source.next(), source.failures_in_a_row()), (Some(Step::AskTarget), n));
        }
        assert_eq!(source.cancel(), Heard::Undoing);
        assert_eq!(source.next(), Some(Step::Decide(Verdict::Kept)));
    }
}

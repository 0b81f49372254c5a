use super::*;

const BUDGETS: Budgets = Budgets { freeze_ms: 10_000, agent_grace_ms: 1_000, capture_grace_ms: 500 };

fn armed() -> Watchdog {
    Watchdog::new(Guard::Source, BUDGETS, 100)
}

#[test]
fn it_waits_for_the_budget_and_then_keeps_and_thaws() {
    let mut dog = armed();
    assert_eq!(dog.next(100), Duty::Wait(10_100));
    assert_eq!(dog.next(10_100), Duty::DecideKept);
    dog.stands(Verdict::Kept);
    assert_eq!(dog.next(10_100), Duty::AwaitCapture(10_600), "CRIU may end in order");
    assert_eq!(dog.next(10_600), Duty::KillCapture);
    dog.capture_ended();
    assert_eq!(dog.next(10_600), Duty::Thaw);
    dog.thawed(10_601);
    assert_eq!(dog.next(10_601), Duty::Wait(10_701), "an agent that was stopped may freeze late");
    assert_eq!(dog.next(10_701), Duty::Thaw);
    dog.done();
    assert_eq!(dog.next(10_701), Duty::End);
}

#[test]
fn released_is_never_thawed() {
    let mut dog = armed();
    assert_eq!(dog.next(10_100), Duty::DecideKept);
    dog.stands(Verdict::Released);
    dog.capture_ended();
    for now in [10_100, 20_000, u64::MAX] {
        assert_eq!(dog.next(now), Duty::Idle);
    }
}

#[test]
fn kept_by_the_agent_is_the_agents_until_the_budget_ends() {
    let mut dog = armed();
    dog.stands(Verdict::Kept);
    dog.capture_ended();
    assert_eq!(dog.next(5_000), Duty::Wait(10_100));
    assert_eq!(dog.next(10_100), Duty::Thaw);
}

#[test]
fn a_dead_agent_is_followed_by_a_recovery_long_before_the_budget() {
    let mut dog = armed();
    dog.agent_gone(2_000);
    assert_eq!(dog.next(2_000), Duty::Wait(3_000));
    assert_eq!(dog.next(3_000), Duty::Recover);
    dog.recovering();
    assert_eq!(dog.next(3_000), Duty::Wait(10_100), "the budget is guarded meanwhile");
    dog.recovery_ended(4_000);
    assert_eq!(dog.next(4_000), Duty::Wait(5_000));
    assert_eq!(dog.next(5_000), Duty::Recover);
    dog.recovering();
    dog.recovery_ended(6_000);
    assert_eq!(dog.next(6_000), Duty::Wait(8_000), "the pause doubles");
}

#[test]
fn the_budget_comes_before_a_recovery() {
    let mut dog = armed();
    dog.agent_gone(9_500);
    assert_eq!(dog.next(10_500), Duty::DecideKept);
    dog.failed(10_500);
    assert_eq!(dog.next(10_500), Duty::Recover);
    dog.recovering();
    assert_eq!(dog.next(10_600), Duty::DecideKept);
}

#[test]
fn without_a_recovery_it_ends_when_the_container_runs() {
    let mut dog = armed();
    dog.agent_gone_for_good();
    assert_eq!(dog.next(9_000), Duty::Wait(10_100));
    dog.stands(Verdict::Kept);
    dog.capture_ended();
    assert_eq!(dog.next(10_100), Duty::Thaw);
    dog.thawed(10_100);
    assert_eq!(dog.next(10_100), Duty::End);
}

#[test]
fn on_the_target_time_decides_nothing() {
    let mut dog = Watchdog::new(Guard::Target, BUDGETS, 0);
    assert_eq!(dog.next(u64::MAX), Duty::Idle);
    dog.agent_gone(50);
    assert_eq!(dog.next(1_050), Duty::Recover);
}

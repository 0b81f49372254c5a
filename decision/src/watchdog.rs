//! The watchdog's rule, as a pure machine: no container stays frozen because an agent died.
//!
//! It may write `kept` and never `released`; it thaws only where `kept` stands. All times are milliseconds
//! of one monotonic clock, whose zero is the caller's.

use crate::Verdict;

/// How long the watchdog waits for what. Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// From being armed, which is before the freeze, until `kept` is tried.
    pub freeze_ms: u64,
    /// From the agent's death until somebody else is started to take the migration up.
    pub agent_grace_ms: u64,
    /// From the end of the freeze budget until a CRIU that is still at work is killed. It is given a chance
    /// to end in order, for a CRIU that is killed may take its container along (seen, cgroup v2).
    pub capture_grace_ms: u64,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Nothing before this time, unless an event comes.
    Wait(u64),
    /// Nothing, unless an event comes.
    Idle,
    /// Write `kept`, and tell [`Watchdog::stands`] which record stands; again later if that fails.
    DecideKept,
    /// Wait, until this time at the most, for the capture's cgroup to be empty, and if it is tell
    /// [`Watchdog::capture_ended`].
    AwaitCapture(u64),
    /// Kill whatever is left in the capture's cgroup, then tell [`Watchdog::capture_ended`].
    KillCapture,
    /// Thaw the containers, read it back, and tell [`Watchdog::thawed`]; again later if that fails.
    Thaw,
    /// Start the recovery, and tell [`Watchdog::recovery_ended`] when it has.
    Recover,
    /// Nothing is left to watch.
    End,
}

/// How often a thawed container is looked at again: an agent that was stopped may freeze it late.
const LOOK_AGAIN_MS: u64 = 100;

/// The longest pause between two recoveries, or two tries of anything else that failed.
const LONGEST_PAUSE_MS: u64 = 30_000;

/// The machine.
#[derive(Clone, Debug)]
pub struct Watchdog {
    budgets: Budgets,
    armed_at: u64,
    guard: Guard,
    recovery: Recovery,
    verdict: Option<Verdict>,
    capture: Capture,
    thaw_at: u64,
    retry_at: u64,
    done: bool,
}

/// What a watchdog guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Frozen containers and an agent: the source.
    Source,
    /// An agent only: the target, where time decides nothing.
    Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capture {
    AtWork,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recovery {
    /// The agent lives.
    NotNeeded,
    /// To be started at this time; `pause` is how long the next one waits if it fails.
    Due {
        at: u64,
        pause: u64,
    },
    Running {
        pause: u64,
    },
    /// There is no command for it.
    Impossible,
}

impl Watchdog {
    /// A watchdog that is armed at `now`.
    pub fn new(guard: Guard, budgets: Budgets, now: u64) -> Self {
        Self {
            budgets,
            armed_at: now,
            guard,
            recovery: Recovery::NotNeeded,
            verdict: None,
            capture: Capture::AtWork,
            thaw_at: 0,
            retry_at: 0,
            done: false,
        }
    }

    /// What is to be done at `now`.
    pub fn next(&self, now: u64) -> Duty {
        if self.done {
            return Duty::End;
        }
        let (guarding, at) = self.guarding(now);
        if guarding != Duty::Idle && now >= at {
            return guarding;
        }
        let recover_at = match self.recovery {
            Recovery::Due { at, .. } if now >= at => return Duty::Recover,
            Recovery::Due { at, .. } => Some(at),
            Recovery::Impossible if self.has_done_its_part() => return Duty::End,
            Recovery::NotNeeded | Recovery::Running { .. } | Recovery::Impossible => None,
        };
        let guard_at = (guarding != Duty::Idle).then_some(at);
        match (guard_at, recover_at) {
            (Some(a), Some(b)) => Duty::Wait(a.min(b)),
            (Some(at), None) | (None, Some(at)) => Duty::Wait(at),
            (None, None) => Duty::Idle,
        }
    }

    /// The next duty towards the frozen containers, and when.
    fn guarding(&self, now: u64) -> (Duty, u64) {
        let budget_ends = self.armed_at.saturating_add(self.budgets.freeze_ms);
        // Until the budget's end the agent, or the recovery, does all this in its own order.
        match (self.guard, self.verdict) {
            (Guard::Target, _) | (_, Some(Verdict::Released)) => (Duty::Idle, now),
            (Guard::Source, None) => (Duty::DecideKept, budget_ends.max(self.retry_at)),
            (Guard::Source, Some(Verdict::Kept)) => match self.capture {
                Capture::AtWork => {
                    let kill_at = budget_ends.saturating_add(self.budgets.capture_grace_ms);
                    let duty = if now < kill_at { Duty::AwaitCapture(kill_at) } else { Duty::KillCapture };
                    (duty, budget_ends.max(self.retry_at))
                }
                Capture::Ended => (Duty::Thaw, budget_ends.max(self.thaw_at).max(self.retry_at)),
            },
        }
    }

    /// An agent that comes back recovers by itself; this one needn't wait for it.
    fn has_done_its_part(&self) -> bool {
        self.guard == Guard::Target || self.verdict == Some(Verdict::Released) || self.thaw_at > 0
    }

    /// This verdict stands: the watchdog's own `kept`, or whatever was there.
    pub fn stands(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    /// Nothing is left in the capture's cgroup. Told only when `kept` stands: before, another may come.
    pub fn capture_ended(&mut self) {
        self.capture = Capture::Ended;
    }

    /// The containers read back as thawed at `now`. They are looked at again, until all is over.
    pub fn thawed(&mut self, now: u64) {
        self.thaw_at = now.saturating_add(LOOK_AGAIN_MS);
    }

    /// The duty that was named at `now` failed: it is named again a little later.
    pub fn failed(&mut self, now: u64) {
        self.retry_at = now.saturating_add(LOOK_AGAIN_MS);
    }

    /// The agent has ended, and somebody can be started in its place.
    pub fn agent_gone(&mut self, now: u64) {
        let grace = self.budgets.agent_grace_ms;
        self.recovery = Recovery::Due { at: now.saturating_add(grace), pause: grace.max(1) };
    }

    /// The agent has ended, and there is no command to start in its place.
    pub fn agent_gone_for_good(&mut self) {
        self.recovery = Recovery::Impossible;
    }

    /// The recovery was started.
    pub fn recovering(&mut self) {
        if let Recovery::Due { pause, .. } = self.recovery {
            self.recovery = Recovery::Running { pause };
        }
    }

    /// The recovery has ended, or could not be started. If the migration isn't done it is started again,
    /// after a pause that doubles.
    pub fn recovery_ended(&mut self, now: u64) {
        if let Recovery::Running { pause } | Recovery::Due { pause, .. } = self.recovery {
            let longer = pause.saturating_mul(2).min(LONGEST_PAUSE_MS);
            self.recovery = Recovery::Due { at: now.saturating_add(pause), pause: longer };
        }
    }

    /// The migration is marked as done.
    pub fn done(&mut self) {
        self.done = true;
    }
}

#[cfg(test)]
mod tests;

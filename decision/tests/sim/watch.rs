//! The watchdogs of both ends, with the real rule.

use transship_decision::watchdog::{Budgets, Duty, Guard};
use transship_decision::{By, Verdict, Watchdog};

use super::faults::Mutant;
use super::world::{AGENT_GRACE, BUDGET, CAPTURE_GRACE, Event, Side, World, failure, record};

pub struct Dog {
    rule: Watchdog,
    /// The mutant: it has thawed once, and sleeps.
    asleep: bool,
}

impl Dog {
    fn new(guard: Guard, now: u64) -> Self {
        let budgets =
            Budgets { freeze_ms: BUDGET, agent_grace_ms: AGENT_GRACE, capture_grace_ms: CAPTURE_GRACE };
        Self { rule: Watchdog::new(guard, budgets, now), asleep: false }
    }
}

impl World {
    pub fn source_dog_starts(&mut self) {
        if self.mutant != Mutant::NoWatchdog {
            self.source.dog = Some(Dog::new(Guard::Source, self.now));
            self.watchdog_wakes();
        }
    }

    pub fn target_dog_starts(&mut self) {
        self.target.dog = Some(Dog::new(Guard::Target, self.now));
    }

    fn dog(&mut self, side: Side) -> Option<&mut Dog> {
        match side {
            Side::Source => self.source.dog.as_mut(),
            Side::Target => self.target.dog.as_mut(),
        }
    }

    fn poke(&mut self, side: Side) {
        self.after(
            0,
            match side {
                Side::Source => Event::WatchdogWakes,
                Side::Target => Event::TargetWatchdogWakes,
            },
        );
    }

    pub fn dog_misses_agent(&mut self, side: Side) {
        let now = self.now;
        if let Some(dog) = self.dog(side) {
            dog.rule.agent_gone(now);
            self.poke(side);
        }
    }

    pub fn dog_hears_recovery_ended(&mut self, side: Side) {
        let now = self.now;
        if let Some(dog) = self.dog(side) {
            dog.rule.recovery_ended(now);
            self.poke(side);
        }
    }

    fn starts_recovery(&mut self, side: Side) {
        if let Some(dog) = self.dog(side) {
            dog.rule.recovering();
        }
        let starts = self.rng.u64(5..50);
        self.after(starts, Event::RecoveryStarts(side));
    }

    pub fn watchdog_wakes(&mut self) {
        for _ in 0..10 {
            let (now, verdict, criu) = (self.now, self.source.verdict(), self.source.has_criu());
            let Some(dog) = &mut self.source.dog else { return };
            if dog.asleep {
                return;
            }
            if let Some(verdict) = verdict {
                dog.rule.stands(verdict);
            }
            let duty = dog.rule.next(now);
            self.watchdog_mutates(duty);
            let Some(dog) = &mut self.source.dog else { return };
            match duty {
                Duty::End | Duty::Idle => return,
                Duty::Wait(until) => return self.at(until, Event::WatchdogWakes),
                Duty::DecideKept => {
                    let kept = record(Verdict::Kept, Some(failure("FreezeBudgetExceeded")), By::Watchdog);
                    match self.source.state.decide(kept) {
                        Ok(standing) => dog.rule.stands(standing.record().verdict()),
                        Err(_) => dog.rule.failed(now),
                    }
                }
                Duty::AwaitCapture(until) if criu => {
                    return self.at(until.min(now + 5), Event::WatchdogWakes);
                }
                Duty::AwaitCapture(_) => dog.rule.capture_ended(),
                Duty::KillCapture => {
                    dog.rule.capture_ended();
                    self.criu_dies();
                }
                Duty::Thaw => {
                    dog.rule.thawed(now);
                    self.thaw("the watchdog");
                }
                Duty::Recover => self.starts_recovery(Side::Source),
            }
        }
        self.after(1, Event::WatchdogWakes);
    }

    fn watchdog_mutates(&mut self, duty: Duty) {
        let over = !matches!(duty, Duty::Wait(_) | Duty::Idle | Duty::End);
        let mutant = match self.mutant {
            // `released` leaves it idle, so it is looked at in passing.
            Mutant::WatchdogThawsAlways => duty == Duty::DecideKept,
            Mutant::WatchdogForgetsCriu => matches!(duty, Duty::AwaitCapture(_)),
            _ => false,
        };
        if over && mutant {
            self.thaw("a wrong watchdog");
            if let Some(dog) = &mut self.source.dog {
                dog.asleep = true;
            }
        }
    }

    pub fn target_watchdog_wakes(&mut self) {
        let now = self.now;
        let Some(dog) = &mut self.target.dog else { return };
        match dog.rule.next(now) {
            Duty::Wait(until) => self.at(until, Event::TargetWatchdogWakes),
            Duty::Recover => self.starts_recovery(Side::Target),
            _ => {}
        }
    }
}

//! The source's node, and on it the agent, or who recovers in its place.

use transship_decision::source::{Facts, Fence, Heard, Outcome, Processes, Step, TargetReport};
use transship_decision::target::TargetPhase;
use transship_decision::{By, Marker, Source, StateDir, Verdict};

use super::container::{Criu, Process};
use super::disk::Disk;
use super::faults::{FAULTS_END, Mutant};
use super::net::{Ask, Call, Carried, Said};
use super::watch::Dog;
use super::world::{BUDGET, CAPTURE_GRACE, Event, ROOT, Side, World, failure, migration, pod, record};

pub struct SourceNode {
    pub disk: Disk,
    pub state: StateDir<Disk>,
    pub process: Process,
    pub done: bool,
    pub dog: Option<Dog>,
    /// The life of the container that the plan names.
    pub planned_life: u32,
    pub agent_alive: bool,
    pub worker: Option<Worker>,
    pub criu: Option<Criu>,
    pub next_criu: u32,
    /// The container is removed: no kubelet starts it again.
    pub retired: bool,
    /// Somebody thawed it by hand. What such a one does just before the decision can't be noticed by
    /// anything, so nothing else is made to go wrong with it.
    pub meddled: bool,
    /// A recovery found the source gone and the target whole: `kept` would lose what the target holds, which
    /// only a person may ask for.
    pub must_release: bool,
    /// What the last capture left: the number that the workload says next, or garbage.
    pub tree: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Agent,
    /// `transship recover`, started by the watchdog.
    Recovery,
}

/// Whoever has the lock and drives the machine.
pub struct Worker {
    id: u32,
    who: Who,
    by: By,
    pub machine: Source,
    /// Numbers the steps, so that one that was dropped ends nothing.
    step: u32,
    /// How the step will be said to have ended, where its effect came before its end.
    outcome: Option<Outcome>,
    call: Option<(Call, Ask, u32)>,
}

const CALL_TIMEOUT: u64 = 150;

impl SourceNode {
    pub fn new(mutant: Mutant) -> Self {
        let disk = Disk::default();
        if mutant == Mutant::ReplacesRecords {
            disk.set_replaces();
        }
        Self {
            state: StateDir::with_files("/source", disk.clone()),
            disk,
            process: Process::life(1),
            done: false,
            dog: None,
            planned_life: 1,
            agent_alive: true,
            worker: None,
            criu: None,
            next_criu: 0,
            retired: false,
            meddled: false,
            must_release: false,
            tree: None,
        }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.state.standing(&migration()).unwrap().map(|record| record.record().verdict())
    }

    fn carried(&self) -> Option<Carried> {
        self.state.standing(&migration()).unwrap().map(|record| Carried(record.encode()))
    }

    pub fn answers(&self) -> bool {
        self.agent_alive || self.worker.is_some()
    }

    /// What a target is told that asks, if anybody is there to tell it.
    pub fn word(&self) -> Option<Carried> {
        self.carried().filter(|_| self.answers())
    }

    pub fn is_fenced(&self) -> bool {
        self.state.marked(Marker::Fence, &pod()).unwrap() == Some(migration())
    }

    pub fn has_carrier(&self) -> bool {
        self.done || self.answers()
    }

    pub fn has_criu(&self) -> bool {
        self.criu.is_some()
    }

    pub fn is_planned_life(&self) -> bool {
        self.process.there && self.process.lives == self.planned_life
    }
}

// The agent, and who recovers in its place.
impl World {
    pub fn source_begins(&mut self) {
        self.source_works(Who::Agent, By::Agent, Source::new());
    }

    fn source_works(&mut self, who: Who, by: By, machine: Source) {
        let id = self.worker();
        self.source.worker = Some(Worker { id, who, by, machine, step: 0, outcome: None, call: None });
        self.source_goes();
    }

    pub fn source_agent_dies(&mut self) {
        if !self.source.agent_alive {
            return;
        }
        self.source.agent_alive = false;
        if self.source.worker.as_ref().is_some_and(|worker| worker.who == Who::Agent) {
            self.source.worker = None;
        }
        self.dog_misses_agent(Side::Source);
        self.agent_may_come_back(Side::Source);
    }

    pub fn agent_may_come_back(&mut self, side: Side) {
        let back = match self.rng.u32(0..3) {
            0 => self.rng.u64(10..1_500),
            1 => self.rng.u64(10..20_000),
            _ => return,
        };
        self.after(back, Event::AgentStarts(side));
    }

    pub fn source_agent_starts(&mut self) {
        self.source.agent_alive = true;
        // Whoever recovers has the lock.
        if self.source.worker.is_none() && !self.source.done {
            self.source_recovers(Who::Agent);
        }
    }

    pub fn source_recovery_starts(&mut self) {
        if self.source.dog.is_none() || self.source.done {
            return;
        }
        if self.source.worker.is_some() {
            return self.dog_hears_recovery_ended(Side::Source);
        }
        self.source_recovers(Who::Recovery);
    }

    fn source_recovers(&mut self, who: Who) {
        let source = &self.source;
        let processes = match () {
            () if self.mutant == Mutant::RecoversByKeeping => Processes::Frozen,
            () if !source.is_planned_life() => Processes::Gone,
            () if source.process.frozen || source.process.traced => Processes::Frozen,
            () => Processes::Running,
        };
        let facts = Facts {
            record: source.state.standing(&migration()).unwrap().map(|signed| signed.record().clone()),
            fence: if source.is_fenced() { Fence::Up } else { Fence::Down },
            processes,
            target: TargetReport::Unknown,
        };
        self.note(|| format!("-- recovers: {facts:?}"));
        let undecided = facts.record.is_none() && facts.fence == Fence::Up;
        self.source.must_release = undecided && !self.source.is_planned_life() && self.target_is_whole();
        self.source_works(who, By::Recovery, Source::recover(&facts));
    }

    pub fn source_cancelled(&mut self) {
        let Some(worker) = &mut self.source.worker else { return };
        self.source.must_release = false;
        let heard = worker.machine.cancel();
        if self.mutant == Mutant::CancelsAfterReleased && heard == Heard::TooLate {
            self.thaw("a cancelled agent");
        }
        self.source_heeds(heard);
    }

    pub fn source_budget_ends(&mut self, id: u32) {
        if let Some(worker) = self.source.worker.as_mut().filter(|worker| worker.id == id) {
            let heard = worker.machine.fail(failure("FreezeBudgetExceeded"));
            self.source_heeds(heard);
        }
    }

    /// Drops the step at work where the machine has turned.
    pub fn source_heeds(&mut self, heard: Heard) {
        if heard != Heard::TooLate {
            self.source_goes();
        }
    }

    fn source_goes(&mut self) {
        let Some(worker) = &mut self.source.worker else { return };
        worker.step += 1;
        worker.outcome = None;
        worker.call = None;
        let (id, number) = (worker.id, worker.step);
        let pause = match worker.machine.failures_in_a_row() {
            0 => 0,
            failures => 10 << failures.min(7),
        };
        let Some(step) = worker.machine.next() else {
            self.source.worker = None;
            self.source.done = true;
            self.source.dog = None;
            return;
        };
        self.note(|| format!("-> {step:?}"));
        if let Some((ask, tries)) = self.question(step) {
            return self.source_asks(ask, tries);
        }
        if step == Step::Capture {
            return match self.source.process.stands_still() {
                true => self.criu_starts(),
                false => self.source_finished(Outcome::Failed(failure("NotFrozen"))),
            };
        }
        if step == Step::Decide(Verdict::Kept) && self.mutant == Mutant::ThawsWithoutRecord {
            self.thaw("the agent");
        }
        if step == Step::Kill && self.mutant == Mutant::ThawsToKill {
            self.source.process.frozen = false;
            self.settle();
        }
        let takes = pause + self.effort(if step == Step::EndCapture { CAPTURE_GRACE } else { 10 });
        // Whoever dies in a step has done it, or hasn't.
        if step != Step::EndCapture && self.rng.bool() && self.mutant != Mutant::ThawsToKill {
            let outcome = self.source_does(step);
            if let Some(worker) = &mut self.source.worker {
                worker.outcome = Some(outcome);
            }
        }
        self.after(takes, Event::SourceStep { worker: id, step: number });
    }

    pub fn source_step_ends(&mut self, id: u32, number: u32) {
        let current = self.source.worker.as_mut().filter(|worker| (worker.id, worker.step) == (id, number));
        let Some(worker) = current else { return };
        let outcome = worker.outcome.take();
        let Some(step) = worker.machine.next() else { return };
        if step == Step::CheckStill && !self.source.is_planned_life() {
            let heard = self.source.worker.as_mut().map(|w| w.machine.source_gone(failure("SourceDied")));
            return self.source_heeds(heard.unwrap_or(Heard::TooLate));
        }
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => self.source_does(step),
        };
        self.source_finished(outcome);
    }

    pub fn source_finished(&mut self, outcome: Outcome) {
        let Some(worker) = &mut self.source.worker else { return };
        let Some(step) = worker.machine.next() else { return };
        worker.machine.finished(step, outcome).unwrap();
        self.source_goes();
    }

    fn source_does(&mut self, step: Step) -> Outcome {
        let done = |ok: bool| if ok { Outcome::Done } else { Outcome::Failed(failure("Broken")) };
        let unlucky = self.now < FAULTS_END && self.rng.u32(0..60) == 0;
        match step {
            Step::Preflight if unlucky => Outcome::Refused(failure("Unsuitable")),
            Step::StartWatchdog => {
                self.source_dog_starts();
                let id = self.source.worker.as_ref().map_or(0, |worker| worker.id);
                self.after(BUDGET, Event::BudgetEnds { worker: id });
                Outcome::Done
            }
            Step::RaiseFence => done(self.source.state.raise(Marker::Fence, &pod(), &migration()).is_ok()),
            Step::LowerFence => done(self.source.state.lower(Marker::Fence, &pod(), &migration()).is_ok()),
            Step::Freeze => {
                if !self.source.is_planned_life() || unlucky {
                    return done(false);
                }
                self.source.process.frozen = true;
                self.settle();
                Outcome::Done
            }
            Step::CheckStill => {
                let still = self.source.is_planned_life() && self.source.process.stands_still();
                done(still || self.mutant == Mutant::SkipsCheckStill)
            }
            Step::Decide(wish) => self.source_decides(wish),
            Step::Kill => {
                if self.source.is_planned_life() {
                    self.source_is_gone();
                }
                done(!unlucky)
            }
            Step::Retire => {
                self.source.retired |= !unlucky;
                done(!unlucky)
            }
            Step::EndCapture => {
                self.criu_dies();
                done(!unlucky)
            }
            Step::Thaw => {
                self.thaw("the agent");
                done(!unlucky)
            }
            Step::PreCopy | Step::Sweep | Step::Clean | Step::Preflight => done(!unlucky),
            _ => unreachable!("{step:?} is a question"),
        }
    }

    fn source_decides(&mut self, wish: Verdict) -> Outcome {
        let Some(worker) = &self.source.worker else { return Outcome::Done };
        let wished = record(wish, worker.machine.trouble(), worker.by);
        match self.source.state.decide(wished.clone()) {
            Ok(_) if self.mutant == Mutant::FollowsItsWish => Outcome::Stands(wished.record().clone()),
            Ok(standing) => Outcome::Stands(standing.record().clone()),
            Err(e) => Outcome::Failed(failure(&e.to_string())),
        }
    }
}

// What is asked of the target.
impl World {
    /// The question of a step, and how often it is asked before the step fails.
    fn question(&self, step: Step) -> Option<(Ask, u32)> {
        Some(match step {
            Step::Prepare => (Ask::Prepare, 5),
            Step::Seal => (Ask::Tree { root: ROOT, number: self.source.tree }, 8),
            Step::AwaitHeld => (Ask::Status, 200),
            Step::AskTarget => (Ask::Status, 1),
            Step::Go => (Ask::Record(self.source.carried()?), 1),
            Step::Carry | Step::Discard => (Ask::Record(self.source.carried()?), 5),
            _ => return None,
        })
    }

    fn source_asks(&mut self, ask: Ask, tries: u32) {
        let Some(worker) = &mut self.source.worker else { return };
        let call = Call { worker: worker.id, number: worker.step };
        worker.call = Some((call, ask.clone(), tries));
        let pause = 10u64 << worker.machine.failures_in_a_row().min(7);
        self.send(call, &ask);
        self.after(CALL_TIMEOUT + pause, Event::CallTimedOut(call));
    }

    pub fn source_heard(&mut self, call: Call, said: Option<Said>) {
        let Some(worker) = &mut self.source.worker else { return };
        let Some((ask, tries)) =
            worker.call.take_if(|(waits, ..)| *waits == call).map(|(_, ask, tries)| (ask, tries))
        else {
            return;
        };
        let step = worker.machine.next();
        let answer = said.and_then(|said| self.understood(step?, said));
        match answer {
            Some(outcome) => self.source_finished(outcome),
            None if tries <= 1 => self.source_finished(match step {
                Some(Step::AskTarget) => Outcome::Target(TargetReport::Unknown),
                _ => Outcome::Failed(failure("TargetLost")),
            }),
            None => {
                // Each try has a number of its own: an answer to the last one isn't waited for any more.
                if let Some(worker) = &mut self.source.worker {
                    worker.step += 1;
                }
                self.source_asks(ask, tries - 1);
            }
        }
    }

    /// `None`: not yet.
    fn understood(&self, step: Step, said: Said) -> Option<Outcome> {
        let fail = |reason: &str| Some(Outcome::Failed(failure(reason)));
        let gone = matches!(said.phase, None | Some(TargetPhase::Discarded));
        match step {
            Step::Prepare if gone => Some(Outcome::Refused(failure("TargetRefuses"))),
            Step::Prepare | Step::Go => Some(Outcome::Done),
            Step::Seal => match said.root {
                Some(root) => Some(Outcome::Sealed(root)),
                None => fail("TargetLost"),
            },
            Step::AwaitHeld => match said.phase {
                Some(TargetPhase::Held) => Some(Outcome::Done),
                _ if gone || said.troubled => fail("RestoreFailed"),
                _ => None,
            },
            Step::AskTarget => Some(Outcome::Target(match said.root {
                Some(root) => TargetReport::Sealed(root),
                None if self.mutant == Mutant::RecoversUnsealed => TargetReport::Sealed(ROOT),
                None => TargetReport::Unsealed,
            })),
            Step::Carry => match said.phase {
                Some(TargetPhase::Resumed) => Some(Outcome::Done),
                Some(TargetPhase::Lost) | None => Some(Outcome::Lost(failure("ImagesLost"))),
                _ => None,
            },
            Step::Discard => gone.then_some(Outcome::Done),
            _ => None,
        }
    }
}

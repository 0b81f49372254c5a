//! The target's node: the agent or who recovers in its place, the kubelet, wrappers, the restored processes.

use std::collections::BTreeMap;

use transship_decision::target::{
    Answer, Ask as Wrapper, ContainerFacts, Expected, TargetFacts, TargetPhase, TargetStep,
};
use transship_decision::{Marker, Root, SignedRecord, StateDir, Target, Verdict};

use super::disk::Disk;
use super::faults::{FAULTS_END, Mutant};
use super::judge::Copy;
use super::net::{Ask, Call, Carried, Said};
use super::watch::Dog;
use super::world::{Event, Side, World, failure, migration, pod};

/// The name of the one container.
const NAME: &str = "main";

pub struct TargetNode {
    pub disk: Disk,
    state: StateDir<Disk>,
    /// Outlive the agent, in a tmpfs.
    pub images: Option<Images>,
    pub was_held: bool,
    pub done: bool,
    pub dog: Option<Dog>,
    process: Process,
    agent_alive: bool,
    worker: Option<Worker>,
    /// The plan is written.
    begun: bool,
    sandbox: bool,
    wrappers: BTreeMap<u64, Doing>,
    /// The kubelet's call that is under way, or the container that it knows.
    kubelet_has: Option<u64>,
    next_wrapper: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Images {
    pub root: Root,
    /// What the workload says next; `None` is garbage.
    pub number: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    None,
    /// Restored by this wrapper's restore.
    Held {
        number: u64,
        by: u64,
    },
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Waits for an answer, since then.
    Waiting(u64),
    /// Was told to restore by this worker.
    Restoring(u32),
}

struct Worker {
    id: u32,
    recovery: bool,
    machine: Target,
    step: u32,
    busy: bool,
    result: Option<bool>,
    record: Option<SignedRecord>,
    held_since: Option<u64>,
}

/// How long a wrapper waits for an agent that is away.
const AGENT_WAIT: u64 = 1_000;

impl TargetNode {
    pub fn new() -> Self {
        let disk = Disk::default();
        Self {
            state: StateDir::with_files("/target", disk.clone()),
            disk,
            images: None,
            was_held: false,
            done: false,
            dog: None,
            process: Process::None,
            agent_alive: false,
            worker: None,
            begun: false,
            sandbox: false,
            wrappers: BTreeMap::new(),
            kubelet_has: None,
            next_wrapper: 0,
        }
    }

    fn verdict(&self) -> Option<Verdict> {
        self.state.standing(&migration()).unwrap().map(|record| record.record().verdict())
    }

    fn is_expected(&self) -> bool {
        self.state.marked(Marker::Expected, &pod()).unwrap().is_some()
    }

    pub fn waits_for_a_word(&self) -> bool {
        self.begun && !self.done
    }

    pub fn answers(&self) -> bool {
        self.agent_alive || self.worker.is_some()
    }

    pub fn has_carrier(&self) -> bool {
        self.done || self.answers()
    }
}

// The agent, and who recovers in its place.
impl World {
    pub fn target_agent_dies(&mut self) {
        if !self.target.agent_alive {
            return;
        }
        self.target.agent_alive = false;
        if self.target.worker.as_ref().is_some_and(|worker| !worker.recovery) {
            self.target.worker = None;
        }
        self.dog_misses_agent(Side::Target);
        self.agent_may_come_back(Side::Target);
    }

    pub fn target_agent_starts(&mut self) {
        self.target.agent_alive = true;
        if self.target.worker.is_none() && self.target.begun && !self.target.done {
            self.target_recovers(false);
        }
    }

    pub fn target_recovery_starts(&mut self) {
        if self.target.dog.is_none() || self.target.done {
            return;
        }
        if self.target.worker.is_some() {
            return self.dog_hears_recovery_ended(Side::Target);
        }
        self.target_recovers(true);
    }

    fn target_recovers(&mut self, recovery: bool) {
        let target = &self.target;
        let busy = target.wrappers.values().any(|doing| matches!(doing, Doing::Restoring(_)));
        let found = match target.process {
            Process::Held { by, .. } if target.kubelet_has == Some(by) && !busy => ContainerFacts::Held,
            Process::None if !busy => ContainerFacts::Absent,
            _ => ContainerFacts::Unclear,
        };
        let facts = TargetFacts {
            containers: vec![(NAME.into(), found)],
            expected: if target.is_expected() { Expected::Up } else { Expected::Down },
            verdict: target.verdict(),
            sealed: target.images.map(|images| images.root),
        };
        self.note(|| format!("-- target recovers: {facts:?}"));
        self.target_works(recovery, Target::recover(facts));
    }

    fn target_works(&mut self, recovery: bool, machine: Target) {
        let id = self.worker();
        self.target.worker = Some(Worker {
            id,
            recovery,
            machine,
            step: 0,
            busy: false,
            result: None,
            record: self.target.state.standing(&migration()).unwrap(),
            held_since: None,
        });
        self.target_goes();
    }

    fn target_goes(&mut self) {
        self.target_mutates();
        let Some(worker) = &mut self.target.worker else { return };
        if worker.machine.phase() == TargetPhase::Held {
            self.target.was_held = true;
            worker.held_since.get_or_insert(self.now);
        }
        if worker.machine.is_over() {
            self.target.done = true;
            self.target.worker = None;
            self.target.dog = None;
            return;
        }
        let Some(step) = worker.machine.next().filter(|_| !worker.busy) else { return };
        worker.busy = true;
        worker.step += 1;
        worker.result = None;
        let (id, number) = (worker.id, worker.step);
        let pause = match worker.machine.failures_in_a_row() {
            0 => 0,
            failures => 10 << failures.min(7),
        };
        self.note(|| format!("-> target {step:?}"));
        let takes = pause + self.effort(10);
        if self.rng.bool() {
            let result = self.target_does(&step);
            if let Some(worker) = &mut self.target.worker {
                worker.result = Some(result);
            }
        }
        self.after(takes, Event::TargetStep { worker: id, step: number });
    }

    pub fn target_step_ends(&mut self, id: u32, number: u32) {
        let current = self.target.worker.as_mut().filter(|worker| (worker.id, worker.step) == (id, number));
        let Some(worker) = current else { return };
        worker.busy = false;
        let result = worker.result.take();
        // An event that came in between may have turned it; then the step it is at is done instead, at once.
        let Some(step) = worker.machine.next() else { return self.target_goes() };
        let ok = match result {
            Some(ok) => ok,
            None => self.target_does(&step),
        };
        if let Some(worker) = &mut self.target.worker {
            worker.machine.finished(&step, if ok { Ok(()) } else { Err(failure("Broken")) });
        }
        self.target_goes();
    }

    fn target_does(&mut self, step: &TargetStep) -> bool {
        let unlucky = self.now < FAULTS_END && self.rng.u32(0..60) == 0;
        match step {
            TargetStep::Adopt => {
                let record = self.target.worker.as_ref().and_then(|worker| worker.record.clone());
                record.is_some_and(|record| self.target.state.adopt(record).is_ok())
            }
            TargetStep::Remove(_) => {
                self.target_clears();
                !unlucky
            }
            TargetStep::LowerExpected if self.mutant == Mutant::LowersExpectedLast => true,
            TargetStep::LowerExpected => self.lower_expected(),
            TargetStep::Resume => {
                self.target_resumes();
                !unlucky
            }
            TargetStep::Discard => {
                self.target_clears();
                self.target.sandbox = false;
                self.target.wrappers.clear();
                !unlucky
            }
            TargetStep::Clean => {
                self.target.images = None;
                self.mutant != Mutant::LowersExpectedLast || self.lower_expected()
            }
        }
    }

    fn lower_expected(&self) -> bool {
        self.target.state.lower(Marker::Expected, &pod(), &migration()).is_ok()
    }

    fn target_resumes(&mut self) {
        if let Process::Held { number, .. } = self.target.process {
            let verdict = self.source.verdict();
            let released = verdict == Some(Verdict::Released);
            self.judge.must(released, || format!("the target runs while {verdict:?} stands"));
            self.target.process = Process::Running;
            self.judge.runs(Copy::Target, number, self.now);
        }
    }

    /// Ends all processes of the container, restored or being restored.
    fn target_clears(&mut self) {
        if self.target.process == Process::Running {
            self.judge.stands(self.now);
        }
        self.target.process = Process::None;
        self.target.wrappers.retain(|_, doing| matches!(doing, Doing::Waiting(_)));
        self.target.kubelet_has = self.target.kubelet_has.filter(|id| self.target.wrappers.contains_key(id));
        self.after(10, Event::TargetKubeletLooks);
    }

    fn target_mutates(&mut self) {
        let held_for = self.target.worker.as_ref().and_then(|worker| worker.held_since);
        match self.mutant {
            Mutant::ResumesWithoutRecord => self.target_resumes(),
            Mutant::DiscardsOnItsOwn
                if held_for.is_some_and(|since| self.now > since + 20)
                    && self.target.process != Process::Running =>
            {
                self.target_clears();
                self.target.sandbox = false;
                self.target.images = None;
                self.target.done = true;
                self.target.worker = None;
            }
            _ => {}
        }
    }
}

// What the source asks.
impl World {
    pub fn target_asked(&mut self, call: Call, ask: Ask) {
        if self.target.worker.is_none() && !self.target.agent_alive {
            return;
        }
        match ask {
            Ask::Prepare => self.target_prepares(),
            Ask::Tree { root, number } => self.target_receives(Images { root, number }),
            Ask::Status => {}
            Ask::Record(carried) => self.target_told(&carried),
        }
        self.target_goes();
        let said = match &self.target.worker {
            Some(worker) => Said {
                phase: Some(worker.machine.phase()),
                root: worker.machine.root(),
                troubled: worker.machine.trouble().is_some(),
            },
            None => Said {
                phase: self.target.verdict().map(|verdict| match verdict {
                    Verdict::Released => TargetPhase::Resumed,
                    Verdict::Kept => TargetPhase::Discarded,
                }),
                root: None,
                troubled: false,
            },
        };
        self.reply(call, said);
    }

    /// Once only: a `kept` that came first is remembered, also by one that never knew the migration.
    fn target_prepares(&mut self) {
        let target = &mut self.target;
        if target.begun || target.done || target.verdict().is_some() {
            return;
        }
        if target.state.raise(Marker::Expected, &pod(), &migration()).is_err() {
            return;
        }
        target.begun = true;
        target.sandbox = true;
        self.target_dog_starts();
        self.target_works(false, Target::new([NAME.to_owned()]));
        self.after(5, Event::TargetKubeletLooks);
        self.after(1_000, Event::TargetInquires);
    }

    /// Whether it holds all that the source was.
    pub fn target_is_whole(&self) -> bool {
        self.target.images.is_some_and(|images| images.number == Some(self.judge.next))
    }

    fn target_receives(&mut self, images: Images) {
        let Some(worker) = &mut self.target.worker else { return };
        worker.machine.receiving();
        if worker.machine.root().is_none() && worker.machine.phase() == TargetPhase::Receiving {
            self.target.images = Some(images);
            worker.machine.sealed(images.root);
        }
    }

    pub fn target_told(&mut self, carried: &Carried) {
        let signed = SignedRecord::decode(&carried.0).unwrap();
        match &mut self.target.worker {
            Some(worker) => {
                let told = worker.machine.record(signed.record());
                self.judge.must(told.is_ok(), || format!("the target is told: {told:?}"));
                worker.record.get_or_insert(signed);
            }
            None if !self.target.begun => {
                // What can't be remembered isn't acknowledged in earnest; here it will be told again.
                drop(self.target.state.adopt(signed));
            }
            None => {}
        }
        self.target_goes();
    }
}

// The kubelet, the wrapper, the restore.
impl World {
    pub fn target_kubelet_looks(&mut self) {
        if !self.target.sandbox || self.target.process == Process::Running {
            return;
        }
        // Now and then a call takes too long for it, and it starts another.
        let waits = self.target.kubelet_has.is_some_and(|id| self.target.wrappers.contains_key(&id));
        if waits && self.now < FAULTS_END && self.rng.u32(0..60) == 0 {
            self.target.kubelet_has = None;
        }
        if self.target.kubelet_has.is_none() {
            self.target.next_wrapper += 1;
            let ask = self.target.next_wrapper;
            self.target.kubelet_has = Some(ask);
            self.target.wrappers.insert(ask, Doing::Waiting(self.now));
            self.after(2, Event::WrapperAsks(ask));
        }
        self.after(50, Event::TargetKubeletLooks);
    }

    pub fn wrapper_asks(&mut self, ask: u64) {
        let Some(Doing::Waiting(since)) = self.target.wrappers.get(&ask).copied() else { return };
        if self.target.kubelet_has != Some(ask) {
            // Its bundle is gone.
            return self.wrapper_ends(ask);
        }
        if !self.target.is_expected() {
            return self.target_starts_empty("no marker stands");
        }
        let Some(worker) = &mut self.target.worker else {
            if self.now - since < AGENT_WAIT {
                self.after(20, Event::WrapperAsks(ask));
            } else if self.mutant == Mutant::FailsOpen {
                self.target_starts_empty("the agent is away");
            } else {
                self.wrapper_ends(ask);
            }
            return;
        };
        match worker.machine.asked(NAME, Wrapper(ask)) {
            Answer::Wait => {
                // It is connected, and waits for as long as it takes.
                self.target.wrappers.insert(ask, Doing::Waiting(self.now));
                self.after(20, Event::WrapperAsks(ask));
            }
            Answer::Restore => {
                self.target.wrappers.insert(ask, Doing::Restoring(worker.id));
                let takes = self.effort(40);
                self.after(takes, Event::RestoreEnds(ask));
            }
            Answer::Create => self.target_starts_empty("the agent says create"),
            Answer::Refuse(_) => self.wrapper_ends(ask),
        }
        self.target_goes();
    }

    fn target_starts_empty(&mut self, why: &str) {
        self.judge.must(false, || format!("the target starts empty: {why}"));
    }

    fn wrapper_ends(&mut self, ask: u64) {
        self.target.wrappers.remove(&ask);
        if let Some(worker) = &mut self.target.worker {
            worker.machine.wrapper_gone(Wrapper(ask));
        }
        if self.target.kubelet_has == Some(ask) {
            self.target.kubelet_has = None;
        }
    }

    pub fn restore_ends(&mut self, ask: u64) {
        let Some(Doing::Restoring(told_by)) = self.target.wrappers.remove(&ask) else { return };
        let unlucky = self.now < FAULTS_END && self.rng.u32(0..30) == 0;
        let number = self.target.images.and_then(|images| images.number);
        let free = self.target.process == Process::None;
        let known = self.target.kubelet_has == Some(ask);
        let result = match number {
            Some(number) if free && !unlucky => {
                self.target.process = Process::Held { number, by: ask };
                // One that the kubelet has given up is held all the same, and of no use.
                if known { Ok(()) } else { Err(failure("NotRunning")) }
            }
            _ => Err(failure("RestoreFailed")),
        };
        if result.is_err() && known {
            self.target.kubelet_has = None;
        }
        self.restore_ended(told_by, result);
    }

    fn restore_ended(&mut self, told_by: u32, result: Result<(), transship_decision::Failure>) {
        if let Some(worker) = self.target.worker.as_mut().filter(|worker| worker.id == told_by) {
            worker.machine.restore_ended(NAME, result);
        }
        self.target_goes();
    }

    pub fn wrapper_dies(&mut self) {
        let Some((ask, doing)) = self.target.wrappers.iter().next().map(|(ask, doing)| (*ask, *doing)) else {
            return;
        };
        self.wrapper_ends(ask);
        if let Doing::Restoring(told_by) = doing {
            self.restore_ended(told_by, Err(failure("WrapperDied")));
        }
    }

    /// Between the lowered marker and the resume it would be an ordinary crash.
    pub fn held_dies(&mut self) {
        if matches!(self.target.process, Process::Held { .. }) && self.target.is_expected() {
            self.target.process = Process::None;
            self.target.kubelet_has = None;
            if let Some(worker) = &mut self.target.worker {
                worker.machine.died(NAME);
            }
            self.target_goes();
        }
    }
}

//! The target's node, and on it the agent, or who recovers in its place.

use std::collections::BTreeMap;

use transship_decision::target::{ContainerFacts, Expected, TargetFacts, TargetPhase, TargetStep};
use transship_decision::{Marker, Root, SignedRecord, StateDir, Target, Verdict};

use super::disk::Disk;
use super::faults::{FAULTS_END, Mutant};
use super::judge::Copy;
use super::net::{Ask, Call, Carried, Said};
use super::restored::{Doing, Process};
use super::watch::Dog;
use super::world::{Event, Side, World, failure, migration, pod};

/// The name of the one container.
pub const NAME: &str = "main";

pub struct TargetNode {
    pub disk: Disk,
    state: StateDir<Disk>,
    /// Outlive the agent, in a tmpfs.
    pub images: Option<Images>,
    pub was_held: bool,
    pub done: bool,
    pub dog: Option<Dog>,
    pub process: Process,
    agent_alive: bool,
    pub worker: Option<Worker>,
    /// The plan is written.
    begun: bool,
    pub sandbox: bool,
    pub wrappers: BTreeMap<u64, Doing>,
    /// The kubelet's call that is under way, or the container that it knows.
    pub kubelet_has: Option<u64>,
    pub next_wrapper: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Images {
    pub root: Root,
    /// What the workload says next; `None` is garbage.
    pub number: Option<u64>,
}

pub struct Worker {
    pub id: u32,
    recovery: bool,
    pub machine: Target,
    step: u32,
    busy: bool,
    result: Option<bool>,
    record: Option<SignedRecord>,
    held_since: Option<u64>,
}

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

    pub fn is_expected(&self) -> bool {
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

    pub fn target_goes(&mut self) {
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

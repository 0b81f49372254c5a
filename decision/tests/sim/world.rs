use std::cmp::Reverse;
use std::collections::BinaryHeap;

use transship_decision::{By, Failure, MigrationId, PodUid, Record, Root, SignedRecord, UnixMillis, Verdict};

use super::faults::{self, FAULTS_END, Mutant};
use super::judge::{Copy, Judge};
use super::net::{Ask, Call, Said};
use super::source::SourceNode;
use super::target::TargetNode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

#[derive(Clone, Debug)]
pub enum Event {
    /// The step that a worker of the source, or of the target, had begun under this number is through.
    SourceStep {
        worker: u32,
        step: u32,
    },
    TargetStep {
        worker: u32,
        step: u32,
    },
    Asked(Call, Ask),
    Said(Call, Said),
    CallTimedOut(Call),
    CriuSeizes(u32),
    CriuEnds(u32),
    WatchdogWakes,
    TargetWatchdogWakes,
    AgentStarts(Side),
    RecoveryStarts(Side),
    TargetInquires,
    KubeletLooks,
    TargetKubeletLooks,
    WrapperAsks(u64),
    RestoreEnds(u64),
    BudgetEnds {
        worker: u32,
    },
    NodeBoots,
    DiskMends(Side),
    // What goes wrong.
    AgentDies(Side),
    CriuDies,
    SourceDies,
    SourceReboots,
    Cancel,
    HeldDies,
    WrapperDies,
    SomebodyThaws,
    DiskFails(Side),
}

/// The freeze budget, milliseconds.
pub const BUDGET: u64 = 2_000;
/// The watchdog's patience with CRIU, milliseconds.
pub const CAPTURE_GRACE: u64 = 300;
/// Both watchdogs' patience with an agent that died, milliseconds.
pub const AGENT_GRACE: u64 = 1_000;
/// The longest that a disk fails, milliseconds.
pub const DISK_FAILS: u64 = 400;

/// Nothing is left to happen long before.
const END: u64 = 120_000;

pub struct World {
    pub now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::BTreeMap<u64, Event>,
    next_event: u64,
    pub rng: fastrand::Rng,
    pub mutant: Mutant,
    pub loss: u32,
    pub stalls: bool,
    pub judge: Judge,
    pub source: SourceNode,
    pub target: TargetNode,
    next_worker: u32,
    trace: Vec<String>,
    decided: Option<Verdict>,
}

pub fn migration() -> MigrationId {
    "m-1".parse().unwrap()
}

pub fn pod() -> PodUid {
    "pod-1".parse().unwrap()
}

/// The tree's root; there is one migration, so there is one.
pub const ROOT: Root = Root([1; 32]);

pub fn record(verdict: Verdict, why: Option<Failure>, by: By) -> SignedRecord {
    let why = why.unwrap_or_else(|| Failure::new("Unknown", "no reason was given"));
    SignedRecord::unsigned(match verdict {
        Verdict::Released => Record::released(migration(), pod(), ROOT, by, UnixMillis(0)),
        Verdict::Kept => Record::kept(migration(), pod(), why, by, UnixMillis(0)),
    })
}

pub fn failure(reason: &str) -> Failure {
    Failure::new(reason, "simulated")
}

impl World {
    pub fn new(seed: u64, mutant: Mutant) -> Self {
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: std::collections::BTreeMap::new(),
            next_event: 0,
            rng: fastrand::Rng::with_seed(seed),
            mutant,
            loss: 0,
            stalls: false,
            judge: Judge::default(),
            source: SourceNode::new(mutant),
            target: TargetNode::new(),
            next_worker: 0,
            trace: Vec::new(),
            decided: None,
        };
        faults::plan(&mut world);
        world
    }

    /// Runs to the end of everything: how it ended, or what was wrong, and what happened.
    pub fn run(mut self) -> (Result<&'static str, String>, Vec<String>) {
        self.judge.runs(Copy::Source, 0, 0);
        self.target_agent_starts();
        self.source_begins();
        while let Some(Reverse((at, number))) = self.queue.pop() {
            let event = self.events.remove(&number).unwrap();
            if at > END {
                break;
            }
            self.now = at;
            if !matches!(event, Event::KubeletLooks | Event::TargetKubeletLooks | Event::WrapperAsks(_)) {
                self.note(|| format!("{event:?}"));
            }
            self.happen(event);
            self.look_at_the_record();
            self.frozen_too_long();
            if self.judge.violation.is_some() {
                break;
            }
        }
        if self.judge.violation.is_none() {
            self.now = END;
            self.frozen_too_long();
            self.in_the_end();
        }
        let ending = match self.judge.violation.take() {
            Some(violation) => Err(violation),
            None => Ok(self.ending()),
        };
        (ending, self.trace)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::SourceStep { worker, step } => self.source_step_ends(worker, step),
            Event::TargetStep { worker, step } => self.target_step_ends(worker, step),
            Event::Asked(call, ask) => self.target_asked(call, ask),
            Event::Said(call, said) => self.source_heard(call, Some(said)),
            Event::CallTimedOut(call) => self.source_heard(call, None),
            Event::CriuSeizes(criu) => self.criu_seizes(criu),
            Event::CriuEnds(criu) => self.criu_ends(criu),
            Event::WatchdogWakes => self.watchdog_wakes(),
            Event::TargetWatchdogWakes => self.target_watchdog_wakes(),
            Event::AgentStarts(Side::Source) => self.source_agent_starts(),
            Event::AgentStarts(Side::Target) => self.target_agent_starts(),
            Event::RecoveryStarts(Side::Source) => self.source_recovery_starts(),
            Event::RecoveryStarts(Side::Target) => self.target_recovery_starts(),
            Event::TargetInquires => self.target_inquires(),
            Event::KubeletLooks => self.kubelet_looks(),
            Event::TargetKubeletLooks => self.target_kubelet_looks(),
            Event::WrapperAsks(ask) => self.wrapper_asks(ask),
            Event::RestoreEnds(ask) => self.restore_ends(ask),
            Event::BudgetEnds { worker } => self.source_budget_ends(worker),
            Event::NodeBoots => self.source_boots(),
            Event::DiskMends(Side::Source) => self.source.disk.set_failing(false),
            Event::DiskMends(Side::Target) => self.target.disk.set_failing(false),
            Event::AgentDies(Side::Source) => self.source_agent_dies(),
            Event::AgentDies(Side::Target) => self.target_agent_dies(),
            Event::CriuDies => self.criu_dies(),
            Event::SourceDies => self.source_dies(),
            Event::SourceReboots => self.source_reboots(),
            Event::Cancel => self.source_cancelled(),
            Event::HeldDies => self.held_dies(),
            Event::WrapperDies => self.wrapper_dies(),
            Event::SomebodyThaws => self.somebody_thaws(),
            Event::DiskFails(side) => {
                let disk = if side == Side::Source { &self.source.disk } else { &self.target.disk };
                disk.set_failing(true);
                let mends = self.rng.u64(0..DISK_FAILS);
                self.after(mends, Event::DiskMends(side));
            }
        }
    }

    pub fn at(&mut self, time: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse((time, number)));
        self.events.insert(number, event);
    }

    pub fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis, event);
    }

    pub fn worker(&mut self) -> u32 {
        self.next_worker += 1;
        self.next_worker
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let line = format!("{:>7} {}", self.now, what());
        self.trace.push(line);
    }

    /// What has to be true at the moment at which a record comes to stand.
    fn look_at_the_record(&mut self) {
        let standing = self.source.state.standing(&migration()).unwrap();
        let verdict = standing.as_ref().map(|signed| signed.record().verdict());
        if verdict == self.decided {
            return;
        }
        self.note(|| format!("== {verdict:?} stands"));
        let (before, running) = (self.decided, self.judge.running());
        self.judge.must(before.is_none(), || format!("{before:?} was replaced by {verdict:?}"));
        if verdict == Some(Verdict::Released) {
            let whole = self.target_is_whole();
            let (source, target) = (&self.source, &self.target);
            let fenced = source.is_fenced();
            let still = !source.process.is_there() || source.process.stands_still();
            let held = target.was_held || source.process.died;
            self.judge.must(running.is_none(), || format!("released while {running:?} runs"));
            self.judge.must(fenced, || "released without a fence".into());
            self.judge.must(still, || "released while the source doesn't stand still".into());
            self.judge.must(whole, || "released a tree that isn't whole".into());
            self.judge.must(held, || "released what was never held".into());
        }
        let recovered = standing.is_some_and(|signed| signed.record().by() == By::Recovery);
        let lost = verdict == Some(Verdict::Kept) && recovered && self.source.must_release;
        self.judge.must(!lost, || "a recovery kept what only the target holds".into());
        self.decided = verdict;
    }

    fn frozen_too_long(&mut self) {
        let Some(since) = self.source.process.frozen_since else { return };
        let frozen_for = self.now - since;
        let most = BUDGET + CAPTURE_GRACE + DISK_FAILS + 200;
        let undecided = self.source.verdict() != Some(Verdict::Released);
        self.judge.must(!undecided || frozen_for <= most, || {
            format!("frozen for {frozen_for} ms and not released; the budget is {BUDGET}")
        });
    }

    /// What has to be true when nothing happens any more.
    fn in_the_end(&mut self) {
        let (source, target) = (self.source.has_carrier(), self.target.has_carrier());
        let running = self.judge.running();
        let verdict = self.source.verdict();
        let expected = match verdict {
            Some(Verdict::Released) if source && target => Some(Copy::Target),
            Some(Verdict::Released) => return,
            // Whatever became of the migration: who was never released must run.
            Some(Verdict::Kept) => Some(Copy::Source),
            // Nobody is there to decide. Frozen it can't be; gone it may be, behind its fence.
            None if !source || !target => return,
            None => Some(Copy::Source),
        };
        self.judge.must(running == expected, || {
            format!("in the end {running:?} runs where {expected:?} should, and {verdict:?} stands")
        });
        // Who has ended needs no carrier any more, but then nobody is left there to tell the other end.
        let (source, target) = (&self.source, &self.target);
        let source_ends = source.done || !source.has_carrier() || !target.answers();
        let target_ends = !target.waits_for_a_word() || !target.has_carrier() || !source.answers();
        self.judge.must(source_ends, || "the source never comes to an end".into());
        self.judge.must(target_ends, || "the target never comes to an end".into());
    }

    fn ending(&self) -> &'static str {
        match self.source.verdict() {
            _ if !self.source.done => "unfinished",
            Some(Verdict::Released) => "released",
            Some(Verdict::Kept) if self.source.process.lives > 1 => "kept, started anew",
            Some(Verdict::Kept) => "kept",
            None => "refused",
        }
    }

    /// How long a local piece of work takes: little, and now and then far too long.
    pub fn effort(&mut self, usual: u64) -> u64 {
        if self.stalls && self.now < FAULTS_END && self.rng.u32(0..25) == 0 {
            self.rng.u64(0..2 * BUDGET)
        } else {
            self.rng.u64(0..=usual)
        }
    }
}

//! The container on the source: its processes, CRIU, the kubelet that starts it anew.

use transship_decision::source::{Outcome, Step};
use transship_decision::{Admission, Verdict};

use super::faults::Mutant;
use super::judge::Copy;
use super::world::{Event, Side, World, failure, pod};

/// The container's processes.
pub struct Process {
    pub there: bool,
    pub frozen: bool,
    /// CRIU holds them by ptrace.
    pub traced: bool,
    /// What they say next, while they stand.
    pub number: u64,
    pub lives: u32,
    /// They ended without being told to by the migration.
    pub died: bool,
    pub frozen_since: Option<u64>,
}

impl Process {
    /// The container's first life, or a later one that starts from nothing.
    pub fn life(lives: u32) -> Self {
        Self { there: true, frozen: false, traced: false, number: 0, lives, died: false, frozen_since: None }
    }

    pub fn is_there(&self) -> bool {
        self.there
    }

    pub fn stands_still(&self) -> bool {
        self.there && self.frozen && !self.traced
    }
}

pub struct Criu {
    id: u32,
    seized: bool,
}

// The container.
impl World {
    /// Lets the judge see whether the source's processes run.
    pub fn settle(&mut self) {
        let process = &mut self.source.process;
        let runs = process.there && !process.frozen && !process.traced;
        let ran = self.judge.running() == Some(Copy::Source);
        if runs && !ran {
            self.judge.runs(Copy::Source, process.number, self.now);
        } else if !runs && ran {
            process.number = self.judge.stands(self.now);
        }
        process.frozen_since = match process.frozen_since {
            _ if runs || !process.there => None,
            None => Some(self.now),
            since => since,
        };
    }

    pub fn thaw(&mut self, who: &str) {
        let verdict = self.source.verdict();
        if self.source.process.there && (self.source.process.frozen || self.source.process.traced) {
            let kept = verdict == Some(Verdict::Kept);
            self.judge.must(kept, || format!("{who} thaws the source while {verdict:?} stands"));
        }
        self.source.process.frozen = false;
        self.settle();
    }

    pub fn source_is_gone(&mut self) {
        self.source.process.there = false;
        self.settle();
        let looks = self.rng.u64(10..1_000);
        self.after(looks, Event::KubeletLooks);
    }

    pub fn kubelet_looks(&mut self) {
        let source = &mut self.source;
        if source.process.there || source.retired {
            return;
        }
        let open = matches!(source.state.admission(&pod()), Ok(Admission::Open));
        if !open && self.mutant != Mutant::IgnoresFences {
            return self.after(200, Event::KubeletLooks);
        }
        let lives = source.process.lives + 1;
        source.process = Process::life(lives);
        let verdict = source.verdict();
        self.judge
            .must(verdict != Some(Verdict::Released), || "the source starts anew after `released`".into());
        self.judge.starts_anew(Copy::Source, self.now);
    }

    pub fn source_dies(&mut self) {
        if !self.source.process.there || self.source.meddled {
            return;
        }
        self.source.process.died = true;
        self.source_is_gone();
        // An agent that lives notices at once, or when it next looks.
        if self.rng.bool()
            && let Some(worker) = &mut self.source.worker
        {
            let heard = worker.machine.source_gone(failure("SourceDied"));
            self.source_heeds(heard);
        }
    }

    pub fn source_reboots(&mut self) {
        if self.source.meddled {
            return;
        }
        self.source.agent_alive = false;
        self.source.worker = None;
        self.source.criu = None;
        self.source.dog = None;
        self.source.process.traced = false;
        self.source.process.died = true;
        self.source.process.there = false;
        self.settle();
        let boots = self.rng.u64(500..3_000);
        self.after(boots, Event::NodeBoots);
    }

    pub fn source_boots(&mut self) {
        let (agent, kubelet) = (self.rng.u64(10..500), self.rng.u64(10..500));
        self.after(agent, Event::AgentStarts(Side::Source));
        self.after(kubelet, Event::KubeletLooks);
    }

    pub fn somebody_thaws(&mut self) {
        let waits = self.source.worker.as_ref().and_then(|worker| worker.machine.next());
        let in_time = matches!(waits, Some(Step::Seal | Step::AwaitHeld));
        if in_time && self.source.process.stands_still() && !self.source.process.died {
            self.source.meddled = true;
            self.source.process.frozen = false;
            self.settle();
        }
    }
}

// CRIU.
impl World {
    pub fn criu_starts(&mut self) {
        self.source.next_criu += 1;
        let id = self.source.next_criu;
        self.source.criu = Some(Criu { id, seized: false });
        self.source.tree = None;
        let (seizes, ends) = (self.effort(5), self.effort(100));
        self.after(seizes, Event::CriuSeizes(id));
        self.after(seizes + ends, Event::CriuEnds(id));
    }

    pub fn criu_seizes(&mut self, id: u32) {
        if let Some(criu) = self.source.criu.as_mut().filter(|criu| criu.id == id) {
            criu.seized = true;
            self.source.process.frozen = false;
            self.source.process.traced = true;
            self.settle();
        }
    }

    /// In order, well or not: it writes FROZEN.
    pub fn criu_ends(&mut self, id: u32) {
        if self.source.criu.as_ref().is_none_or(|criu| criu.id != id) {
            return;
        }
        self.source.criu = None;
        self.source.process.traced = false;
        self.source.process.frozen = true;
        self.settle();
        let well = self.source.is_planned_life() && self.rng.u32(0..15) > 0;
        self.source.tree = well.then_some(self.source.process.number);
        let outcome = if well { Outcome::Done } else { Outcome::Failed(failure("DumpFailed")) };
        self.capture_ended(outcome);
    }

    pub fn criu_dies(&mut self) {
        let Some(criu) = self.source.criu.take() else { return };
        self.source.process.traced = false;
        self.settle();
        if criu.seized && self.rng.u32(0..25) == 0 {
            self.source.process.died = true;
            self.source_is_gone();
        }
        self.capture_ended(match self.mutant {
            Mutant::TrustsVoidImages => Outcome::Done,
            _ => Outcome::Failed(failure("CriuDied")),
        });
    }

    fn capture_ended(&mut self, outcome: Outcome) {
        let waits = self.source.worker.as_ref().and_then(|worker| worker.machine.next());
        if waits == Some(Step::Capture) {
            self.source_finished(outcome);
        }
    }
}

//! The container on the target: the kubelet that asks for it, the wrapper, the restored processes.

use transship_decision::Failure;
use transship_decision::target::{Answer, Ask as Wrapper};

use super::faults::{FAULTS_END, Mutant};
use super::target::NAME;
use super::world::{Event, World, failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    None,
    /// Restored by this wrapper's restore.
    Held {
        number: u64,
        by: u64,
    },
    Running,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Waits for an answer, since then.
    Waiting(u64),
    /// Was told to restore by this worker.
    Restoring(u32),
}

/// How long a wrapper waits for an agent that is away.
const AGENT_WAIT: u64 = 1_000;

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

    fn restore_ended(&mut self, told_by: u32, result: Result<(), Failure>) {
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

//! Taking up a migration whose worker died, from what is durable and what can be seen.

use super::{Done, Source, Step, TargetReport, Trouble};
use crate::{Failure, Record, Verdict};

/// What is found of a migration that was begun and isn't done.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The record, if one stands.
    pub record: Option<Record>,
    /// The migration's fence.
    pub fence: Fence,
    /// The processes of the source's containers, by the container ids of the plan.
    pub processes: Processes,
    /// What the target says; it is asked again where that matters.
    pub target: TargetReport,
}

/// Whether the migration's own fence stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// It does: the source may have been frozen.
    Up,
    /// It doesn't: the source hasn't been frozen yet, or has been thawed again.
    Down,
}

/// The source's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processes {
    /// At least one container has a process that isn't frozen.
    Running,
    /// Every container has processes, all frozen.
    Frozen,
    /// Those of at least one container are gone (a reboot, the OOM killer, a liveness probe, the kill after
    /// `released`), and no other container's run.
    Gone,
}

impl Source {
    /// The machine at the point from which the migration can be brought to its end.
    ///
    /// Whoever calls it holds the migration's [`Lock`](crate::Lock), so that only one does.
    pub fn recover(facts: &Facts) -> Self {
        let frozen = facts.fence == Fence::Up;
        let done = Done { prepared: true, fenced: true, frozen, ..Done::default() };
        match &facts.record {
            // Asked again, so that the record is durable before it is acted upon; it stands, whatever is wished.
            Some(record) => {
                let mut source = Self::at(Step::Decide(Verdict::Kept), done);
                source.trouble = record.reason().map(Trouble::of_record);
                source
            }
            None if facts.fence == Fence::Up && facts.processes == Processes::Gone => {
                let mut source = Self::at(Step::AskTarget, done);
                source.gone = true;
                source.hear_target(facts.target);
                source
            }
            None => {
                let mut source = Self::at(Step::Decide(Verdict::Kept), done);
                source.trouble = Some(Trouble::Failed(Failure::new(
                    "AgentDied",
                    "the agent died or was restarted during the migration; the container runs on",
                )));
                source
            }
        }
    }
}

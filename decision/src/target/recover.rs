//! Taking up a migration whose agent died, from what is durable and what can be seen.

use super::{Container, Done, Images, State, Target};
use crate::{Root, Verdict};

/// What is found, on the target, of a migration that was begun and isn't done.
#[derive(Clone, Debug)]
pub struct TargetFacts {
    /// Every container of the plan, and what is found of it.
    pub containers: Vec<(String, ContainerFacts)>,
    /// The migration's marker for the Pod.
    pub expected: Expected,
    /// The verdict of the adopted record, if there is one.
    pub verdict: Option<Verdict>,
    /// The root of the tree, if it is whole and verified.
    pub sealed: Option<Root>,
}

/// Whether the marker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It does: the containers haven't been let run.
    Up,
    /// It doesn't: they were about to be let run, or have been; or all was discarded.
    Down,
}

/// What is found of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerFacts {
    /// Its tasks are all there and held, the CRI says RUNNING, and they pass their checks.
    Held,
    /// Nothing of it is there, neither tasks nor an entry in the CRI.
    Absent,
    /// Anything else: a restore under way or broken off, tasks without an entry, an entry without tasks.
    Unclear,
}

impl Target {
    /// The machine at the point from which the migration can be brought to its end.
    ///
    /// Whoever calls it holds the migration's [`Lock`](crate::Lock), so that only one does.
    pub fn recover(facts: TargetFacts) -> Self {
        let lowered = facts.expected == Expected::Down;
        let containers = facts.containers.into_iter().map(|(name, found)| {
            let state = match found {
                ContainerFacts::Held => State::Held,
                ContainerFacts::Absent => State::Absent,
                ContainerFacts::Unclear => State::Remains,
            };
            Container::new(name, state)
        });
        let mut target = Self::new([]);
        target.containers = containers.collect();
        target.images = facts.sealed.map_or(Images::Receiving, Images::Sealed);
        target.verdict = facts.verdict;
        // A marker that is down without a verdict was never up: nothing of the Pod can be here but by
        // accident, and nothing may be.
        target.given_up = lowered && facts.verdict.is_none();
        target.done = Done {
            adopted: facts.verdict.is_some(),
            expected_lowered: lowered && facts.verdict.is_some(),
            ..Done::default()
        };
        target
    }
}

use std::collections::BTreeSet;

use super::{Answer, Ask};

/// One container of the target's Pod.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub name: String,
    pub state: State,
    /// Wrappers that have no answer yet.
    pub waiting: BTreeSet<Ask>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No process of it is here.
    Absent,
    /// A wrapper was told to restore it.
    Restoring,
    /// All its tasks are here, stopped, and passed their checks.
    Held,
    /// Something of a restore may be left that is of no use and must be removed first.
    Remains,
}

impl Container {
    pub fn new(name: String, state: State) -> Self {
        Self { name, state, waiting: BTreeSet::new() }
    }

    /// Another wrapper than the one that restored it asks for a held container when the runtime has given
    /// the first one up (its call timed out): that one goes, and the images are restored once more.
    pub fn asked(&mut self, ask: Ask, sealed: bool) -> Answer {
        if self.state == State::Held {
            self.state = State::Remains;
        }
        if self.state == State::Absent && sealed {
            self.waiting.remove(&ask);
            self.state = State::Restoring;
            return Answer::Restore;
        }
        self.waiting.insert(ask);
        Answer::Wait
    }
}

//! The target's end of a migration, as a pure machine.
//!
//! ```text
//!  Expecting -> Receiving -> Sealed -> Restoring -> Held ---- released ---> Resumed
//!      |            |          ^___________/__________/  (died, or asked for again: restored again)
//!      |            |          |           |          |
//!      |   given up |          +-----------+----------+------ kept -------> Discarded
//!      +------------+--------------------------------------------------> Discarded
//! ```
//!
//! What comes from outside (a wrapper that asks, a tree that is sealed, a record) is told by a method each;
//! what is to be done about it is asked with [`Target::next`]. From the moment the tree is sealed the source
//! may release it, so only its `kept` discards it then, and never time or trouble on this node.

mod container;
mod recover;

use container::{Container, State};
pub use recover::{ContainerFacts, Expected, TargetFacts};

use crate::source::Heard;
use crate::{Failure, Record, Root, Verdict};

/// One connection of a wrapper, numbered by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask(pub u64);

/// What a wrapper that asked to create a container is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet: ask the machine again for this wrapper after the next event.
    Wait,
    /// Restore from the images; the container counts as restoring from now on.
    Restore,
    /// Create it the ordinary way.
    Create,
    /// Fail.
    Refuse(Failure),
}

/// One thing for the agent to do. Each may have been done before, wholly or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStep {
    /// Keep the record that was told last: [`StateDir::adopt`](crate::StateDir::adopt).
    Adopt,
    /// Kill and remove what is left of this container's last restore, here and in the CRI.
    Remove(String),
    /// Lower the `Expected` marker, durably. Comes before [`TargetStep::Resume`]: see
    /// [`Marker::Expected`](crate::Marker::Expected).
    LowerExpected,
    /// Let every held task of every container run. A container that is gone has crashed: that is done too.
    Resume,
    /// Remove all containers and the sandbox.
    Discard,
    /// Remove the images and the work folder, mark the migration as done.
    Clean,
}

/// Where the target's end is. Of several containers the one that is furthest behind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetPhase {
    /// Nothing has come.
    Expecting,
    /// The tree is coming.
    Receiving,
    /// The tree is verified; no restore is under way.
    Sealed,
    /// A container is being restored.
    Restoring,
    /// All containers are held.
    Held,
    /// `released`, and all containers run.
    Resumed,
    /// `kept`, or given up before the seal.
    Discarded,
    /// The images are gone, or never were whole, and `released` stands: nothing can run here.
    Lost,
}

/// A record that can't be followed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefused {
    /// Another verdict was told before: one of the two carriers is wrong. Nothing was changed.
    #[error("a record says {told}, but {known} was told before: compare both with the source's own")]
    Conflict {
        /// What was told before.
        known: Verdict,
        /// What was told now.
        told: Verdict,
    },
    /// It releases another tree than the one that is sealed here. Nothing was changed.
    #[error("a record releases the tree {told}, but {sealed} is sealed here: this is not its target")]
    OtherTree {
        /// The tree that is sealed here.
        sealed: Root,
        /// The tree that the record names.
        told: Root,
    },
}

/// The machine. One per migration.
#[derive(Clone, Debug)]
pub struct Target {
    images: Images,
    verdict: Option<Verdict>,
    given_up: bool,
    containers: Vec<Container>,
    done: Done,
    trouble: Option<Failure>,
    failures_in_a_row: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Images {
    Expecting,
    Receiving,
    Sealed(Root),
    Lost,
}

#[derive(Clone, Copy, Debug, Default)]
struct Done {
    adopted: bool,
    discarded: bool,
    expected_lowered: bool,
    resumed: bool,
    cleaned: bool,
}

impl Target {
    /// A Pod with these containers (their names in the Pod) is expected. The marker must be up already.
    pub fn new(containers: impl IntoIterator<Item = String>) -> Self {
        Self {
            images: Images::Expecting,
            verdict: None,
            given_up: false,
            containers: containers.into_iter().map(|name| Container::new(name, State::Absent)).collect(),
            done: Done::default(),
            trouble: None,
            failures_in_a_row: 0,
        }
    }

    /// The first bytes of the tree came.
    pub fn receiving(&mut self) {
        if self.images == Images::Expecting {
            self.images = Images::Receiving;
        }
    }

    /// The whole tree is here and verified under `root`, and would be found again by a restarted agent.
    /// Told to the source only after this.
    pub fn sealed(&mut self, root: Root) {
        if matches!(self.images, Images::Expecting | Images::Receiving) && !self.given_up {
            self.images = Images::Sealed(root);
        }
    }

    /// The images can't be used any more.
    pub fn images_lost(&mut self, why: Failure) {
        self.images = Images::Lost;
        self.trouble = Some(why);
    }

    /// A wrapper asks to create `container`, or still waits. [`Answer::Wait`] until another event changes
    /// it; every other answer is given once, and then the wrapper is forgotten.
    pub fn asked(&mut self, container: &str, ask: Ask) -> Answer {
        if self.done.resumed {
            return Answer::Create;
        }
        if let Some(failure) = self.closed() {
            return Answer::Refuse(failure);
        }
        let sealed = matches!(self.images, Images::Sealed(_)) && !self.done.expected_lowered;
        match self.containers.iter_mut().find(|c| c.name == container) {
            None => Answer::Refuse(Failure::new(
                "UnknownContainer",
                format!("container {container} is not part of the migration that this Pod is expected by"),
            )),
            Some(_) if self.done.expected_lowered => Answer::Wait,
            Some(container) => container.asked(ask, sealed),
        }
    }

    /// Why no container of this Pod may come to be here, if so.
    fn closed(&self) -> Option<Failure> {
        if self.verdict == Some(Verdict::Kept) || self.given_up {
            let why = "the migration was undone, the container runs on where it was; remove this Pod";
            return Some(Failure::new("MigrationKept", why));
        }
        if self.phase() == TargetPhase::Lost {
            let why = "the migration was released to this node, which has lost the images; restore the container \
                       from a backup or start it anew under another Pod";
            return Some(Failure::new("ImagesLost", why));
        }
        None
    }

    /// A wrapper that was still waiting is gone.
    pub fn wrapper_gone(&mut self, ask: Ask) {
        for container in &mut self.containers {
            container.waiting.remove(&ask);
        }
    }

    /// The restore of `container` has ended: the CRI says RUNNING, every task is held and passed its check;
    /// or it failed, or its wrapper is gone and nothing is known.
    pub fn restore_ended(&mut self, container: &str, result: Result<(), Failure>) {
        let Some(container) = self.containers.iter_mut().find(|c| c.name == container) else { return };
        if container.state == State::Restoring {
            container.state = match &result {
                Ok(()) if container.waiting.is_empty() => State::Held,
                // The runtime has given that one up and asks for another.
                Ok(()) | Err(_) => State::Remains,
            };
            self.trouble = result.err();
        }
    }

    /// The runtime's call that was to create and start `container` has failed. While that one is being restored it
    /// changes nothing: [`Target::restore_ended`] follows, and knows the reason.
    pub fn create_failed(&mut self, container: &str, failure: Failure) {
        let Some(container) = self.containers.iter_mut().find(|c| c.name == container) else { return };
        if container.state == State::Restoring {
            return;
        }
        if !self.done.expected_lowered {
            container.state = State::Remains;
        }
        self.trouble = Some(failure);
    }

    /// Whether a wrapper waits to create `container`: then all that a restore needs beside the images is there.
    pub fn is_waiting(&self, container: &str) -> bool {
        self.containers.iter().any(|c| c.name == container && !c.waiting.is_empty())
    }

    /// A held container has died: a liveness probe, the OOM killer.
    pub fn died(&mut self, container: &str) {
        let Some(container) = self.containers.iter_mut().find(|c| c.name == container) else { return };
        if container.state == State::Held && !self.done.expected_lowered {
            container.state = State::Remains;
        }
    }

    /// A record came; the caller has verified whose it is, and that it is for this migration.
    ///
    /// # Errors
    /// [`RecordRefused`]; it is not to be acknowledged then.
    pub fn record(&mut self, record: &Record) -> Result<(), RecordRefused> {
        let told = record.verdict();
        if let Some(known) = self.verdict.filter(|known| *known != told) {
            return Err(RecordRefused::Conflict { known, told });
        }
        if let (Images::Sealed(sealed), Some(told)) = (self.images, record.root())
            && sealed != told
        {
            return Err(RecordRefused::OtherTree { sealed, told });
        }
        self.verdict = Some(told);
        Ok(())
    }

    /// Ends it from this side (the source is silent, there is no room). Possible only until the tree is
    /// sealed; later the answer is [`Heard::TooLate`], and the source's word has to be waited for.
    pub fn give_up(&mut self, why: Failure) -> Heard {
        if matches!(self.images, Images::Sealed(_)) || self.verdict.is_some() {
            return Heard::TooLate;
        }
        self.given_up = true;
        self.trouble.get_or_insert(why);
        Heard::Undoing
    }

    /// Whoever began it knows that it is lost, and has settled what becomes of the workload: nothing of it is kept here.
    /// Changes nothing unless it is [`TargetPhase::Lost`].
    pub fn abandon(&mut self) {
        self.given_up |= self.phase() == TargetPhase::Lost;
    }

    /// What is to be done now; `None`: wait for an event, or all is over ([`Target::is_over`]).
    pub fn next(&self) -> Option<TargetStep> {
        if self.done.cleaned {
            return None;
        }
        if self.verdict.is_some() && !self.done.adopted {
            return Some(TargetStep::Adopt);
        }
        if self.verdict == Some(Verdict::Kept) || self.given_up {
            return Some(match self.done {
                // The marker outlives the sandbox, or a container of it could start empty.
                Done { discarded: false, .. } => TargetStep::Discard,
                Done { expected_lowered: false, .. } => TargetStep::LowerExpected,
                _ => TargetStep::Clean,
            });
        }
        if self.done.resumed {
            return Some(TargetStep::Clean);
        }
        if self.done.expected_lowered {
            return Some(TargetStep::Resume);
        }
        if let Some(container) = self.containers.iter().find(|c| c.state == State::Remains) {
            return Some(TargetStep::Remove(container.name.clone()));
        }
        let released = self.verdict == Some(Verdict::Released);
        (released && self.all_held()).then_some(TargetStep::LowerExpected)
    }

    /// Tells how a step ended; one that is no longer [`Target::next`] (an event came in between) is ignored,
    /// and so comes up again where it is still needed. A step that failed comes up again: wait as
    /// [`Target::failures_in_a_row`] suggests.
    pub fn finished(&mut self, step: &TargetStep, result: Result<(), Failure>) {
        if self.next().as_ref() != Some(step) {
            return;
        }
        if let Err(failure) = result {
            self.failures_in_a_row += 1;
            self.trouble = Some(failure);
            return;
        }
        self.failures_in_a_row = 0;
        match step {
            TargetStep::Adopt => self.done.adopted = true,
            TargetStep::Remove(name) => {
                for container in self.containers.iter_mut().filter(|c| c.name == *name) {
                    container.state = State::Absent;
                }
            }
            TargetStep::LowerExpected => self.done.expected_lowered = true,
            TargetStep::Resume => self.done.resumed = true,
            TargetStep::Discard => self.done.discarded = true,
            TargetStep::Clean => self.done.cleaned = true,
        }
    }

    /// Where it is.
    pub fn phase(&self) -> TargetPhase {
        let released = self.verdict == Some(Verdict::Released);
        match self.images {
            _ if self.done.resumed => TargetPhase::Resumed,
            _ if self.verdict == Some(Verdict::Kept) || self.given_up => TargetPhase::Discarded,
            _ if self.done.expected_lowered => TargetPhase::Held,
            Images::Lost | Images::Expecting | Images::Receiving if released => TargetPhase::Lost,
            Images::Expecting => TargetPhase::Expecting,
            Images::Receiving | Images::Lost => TargetPhase::Receiving,
            Images::Sealed(_) if self.all_held() => TargetPhase::Held,
            Images::Sealed(_) if self.containers.iter().any(|c| c.state == State::Restoring) => {
                TargetPhase::Restoring
            }
            Images::Sealed(_) => TargetPhase::Sealed,
        }
    }

    /// The tree that is held here, as the source is told when it asks.
    pub fn root(&self) -> Option<Root> {
        match self.images {
            Images::Sealed(root) => Some(root),
            _ => None,
        }
    }

    /// The containers that somebody must ask the CRI to create (again): a kubelet does so by itself, on a
    /// single host the agent does.
    pub fn absent(&self) -> impl Iterator<Item = &str> {
        let wanted = !self.done.expected_lowered && self.closed().is_none();
        self.containers
            .iter()
            .filter(move |c| wanted && c.state == State::Absent && c.waiting.is_empty())
            .map(|c| c.name.as_str())
    }

    /// Nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.done.cleaned
    }

    /// What last went wrong: a restore, a step, or why it was given up.
    pub fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }

    /// How often the step that is to be done now has failed without one that went well in between.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    fn all_held(&self) -> bool {
        self.containers.iter().all(|c| c.state == State::Held)
    }
}

#[cfg(test)]
mod tests;

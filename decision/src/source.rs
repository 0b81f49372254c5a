//! The source's end of a migration, as a pure machine.
//!
//! ```text
//!  Preflight  Prepare  PreCopy  StartWatchdog  RaiseFence     the source runs
//!      |
//!  Freeze  Capture  Seal  AwaitHeld  CheckStill               the source is frozen, the target made whole
//!      |                                     \
//!  Decide(released)                           any failure, cancel, a lost target, the budget's end
//!      |            \__ `kept` stands __          |
//!      |                                \     Decide(kept)
//!      |                  _______________\____/   |
//!      |    `released` stands                 \   |
//!  Go  Kill  Carry  Retire                     EndCapture  Thaw  Sweep
//!      |                                          |
//!  LowerFence  Clean                          LowerFence  Discard  Clean
//! ```
//!
//! The agent asks [`Source::next`] for a step, does it, and tells with [`Source::finished`] how that ended.
//! Which of the two ways is taken depends on the record that [`StateDir::decide`](crate::StateDir::decide)
//! says stands, never on the one that was wished for: the watchdog may have been first.
//!
//! After `released` no step thaws the source and nothing can cancel. After `kept` every step is safe to do
//! again and most are done even where they may not be needed, so that the same way serves after a crash,
//! when nobody knows how far the last one came.

mod recover;
mod step;

pub use recover::{Facts, Fence, Processes};
pub use step::{Ending, Heard, OutOfTurn, Outcome, Phase, Step, TargetReport};

use crate::{Failure, Record, Root, Verdict};

/// The machine. One per migration; it is dropped when [`Source::next`] has nothing more to do.
#[derive(Clone, Debug)]
pub struct Source {
    step: Option<Step>,
    done: Done,
    /// How it will end, once something has gone otherwise than it should. The first reason is kept.
    trouble: Option<Trouble>,
    root: Option<Root>,
    verdict: Option<Verdict>,
    /// Nothing is left of the source's processes: `kept` would keep nothing.
    gone: bool,
    leftovers: Vec<(Step, Failure)>,
    failures_in_a_row: u32,
    last_failure: Option<Failure>,
}

/// What has been begun, and must be undone; what has been done, and needs no second time.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    prepared: bool,
    fenced: bool,
    frozen: bool,
    capture_ended: bool,
    killed: bool,
    carried: bool,
}

#[derive(Clone, Debug)]
enum Trouble {
    Refused(Failure),
    Failed(Failure),
    Cancelled,
    Lost(Failure),
}

impl Trouble {
    const CANCELLED: &str = "Cancelled";

    /// The reason of a `kept` record that another worker wrote.
    fn of_record(reason: &Failure) -> Self {
        if reason.reason == Self::CANCELLED { Self::Cancelled } else { Self::Failed(reason.clone()) }
    }
}

impl Source {
    /// A migration from its beginning.
    pub fn new() -> Self {
        Self::at(Step::Preflight, Done::default())
    }

    fn at(step: Step, done: Done) -> Self {
        Self {
            step: Some(step),
            done,
            trouble: None,
            root: None,
            verdict: None,
            gone: false,
            leftovers: Vec::new(),
            failures_in_a_row: 0,
            last_failure: None,
        }
    }

    /// What is to be done now; `None` when the migration has ended. Asking again changes nothing.
    pub fn next(&self) -> Option<Step> {
        self.step
    }

    /// Tells how a step ended. A step that didn't end well may come up again: wait as long as
    /// [`Source::failures_in_a_row`] suggests, then do it again.
    ///
    /// # Errors
    /// [`OutOfTurn`] when `step` isn't the one that [`Source::next`] names now (a stop came in between: look
    /// at `next` again), or when a step can't have ended so. Nothing has changed then.
    pub fn finished(&mut self, step: Step, outcome: Outcome) -> Result<(), OutOfTurn> {
        if self.step != Some(step) {
            return Err(OutOfTurn { step, expected: self.step });
        }
        let failure = match &outcome {
            Outcome::Failed(failure) => Some(failure.clone()),
            Outcome::Target(TargetReport::Unknown) => Some(Failure::new(
                "TargetUnknown",
                "the target doesn't say what it holds; cancel if it never will, and the source starts anew",
            )),
            _ => None,
        };
        match (step, outcome) {
            (Step::Decide(_), Outcome::Stands(record)) => self.follow(&record),
            (Step::Decide(wish), Outcome::Failed(failure)) => self.undecided(wish, failure),
            (Step::Seal, Outcome::Sealed(root)) => {
                self.root = Some(root);
                self.enter(Step::AwaitHeld);
            }
            (Step::AskTarget, Outcome::Target(report)) => self.hear_target(report),
            (Step::AskTarget, Outcome::Failed(_)) => {}
            (Step::Carry, Outcome::Lost(failure)) => {
                self.trouble = Some(Trouble::Lost(failure));
                self.done.carried = true;
                self.enter(self.after_kill_and_carry());
            }
            (Step::Preflight | Step::Prepare, Outcome::Refused(failure)) => {
                self.undo(Trouble::Refused(failure));
            }
            (_, Outcome::Failed(failure)) => self.failed(step, failure),
            (Step::Decide(_) | Step::Seal | Step::AskTarget, _) => {
                return Err(OutOfTurn { step, expected: self.step });
            }
            (_, Outcome::Done) => self.did(step),
            _ => return Err(OutOfTurn { step, expected: self.step }),
        }
        // Two steps that wait for each other (Kill and Carry, EndCapture and Thaw) share one back-off.
        self.failures_in_a_row = if failure.is_some() { self.failures_in_a_row + 1 } else { 0 };
        self.last_failure = failure;
        Ok(())
    }

    /// A person, or whoever asked for the migration, wants it to end.
    pub fn cancel(&mut self) -> Heard {
        self.stop(Trouble::Cancelled)
    }

    /// Something outside of the step at work went wrong: the target is lost, the freeze budget or the time
    /// for the whole is over, CRIU died, the agent is told to end.
    pub fn fail(&mut self, failure: Failure) -> Heard {
        self.stop(Trouble::Failed(failure))
    }

    /// The source's processes have ended while they were frozen (a liveness probe, the OOM killer). If the
    /// target holds a sealed tree, that is now the only copy, and it is released; else this is a failure.
    /// To be called only when no process of the Pod runs: see [`Processes::Gone`].
    pub fn source_gone(&mut self, failure: Failure) -> Heard {
        match self.step {
            Some(Step::AwaitHeld | Step::CheckStill) => {
                self.gone = true;
                self.enter(Step::Decide(Verdict::Released));
                Heard::Releasing
            }
            _ => self.stop(Trouble::Failed(failure)),
        }
    }

    /// Where a user sees the migration.
    pub fn phase(&self) -> Phase {
        let Some(step) = self.step else { return self.ending_phase() };
        if self.verdict == Some(Verdict::Kept) {
            return self.ending_phase();
        }
        match step {
            Step::Preflight => Phase::Preflight,
            Step::Prepare | Step::StartWatchdog | Step::RaiseFence => Phase::Preparing,
            Step::PreCopy => Phase::PreCopying,
            Step::Freeze | Step::Capture => Phase::Frozen,
            Step::Seal | Step::AwaitHeld | Step::CheckStill | Step::AskTarget => Phase::Restoring,
            Step::Decide(_) if self.done.frozen => Phase::Restoring,
            Step::Decide(_) => Phase::Preparing,
            _ => Phase::Released,
        }
    }

    /// How it ended; `None` until it has.
    pub fn ending(&self) -> Option<Ending> {
        self.step.is_none().then(|| self.coming_ending())
    }

    /// How it ends if nothing changes any more. At [`Step::Clean`] nothing does, so that it can be kept before the
    /// migration is marked as done.
    pub fn coming_ending(&self) -> Ending {
        match &self.trouble {
            None => Ending::Succeeded,
            Some(Trouble::Refused(failure)) => Ending::Refused(failure.clone()),
            Some(Trouble::Failed(failure)) => Ending::Failed(failure.clone()),
            Some(Trouble::Cancelled) => Ending::Cancelled,
            Some(Trouble::Lost(failure)) => Ending::Lost(failure.clone()),
        }
    }

    /// Why it is being undone or was, as it will be written into a `kept` record.
    pub fn trouble(&self) -> Option<Failure> {
        match self.trouble.as_ref()? {
            Trouble::Refused(failure) | Trouble::Failed(failure) | Trouble::Lost(failure) => {
                Some(failure.clone())
            }
            Trouble::Cancelled => {
                Some(Failure::new(Trouble::CANCELLED, "the migration was cancelled; the container runs on"))
            }
        }
    }

    /// The sealed root, once the target has verified it.
    pub fn root(&self) -> Option<Root> {
        self.root
    }

    /// The verdict that stands, once it is known.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Steps of the way back that failed and aren't tried again, so that a person must look after them.
    pub fn leftovers(&self) -> &[(Step, Failure)] {
        &self.leftovers
    }

    /// How often the step that is to be done now has failed without one that went well in between.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// How the last step failed, if it did.
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    /// Notes what begins with a step *before* it is begun: whoever dies in it leaves it half done.
    fn enter(&mut self, step: Step) {
        match step {
            Step::Prepare => self.done.prepared = true,
            Step::RaiseFence => self.done.fenced = true,
            Step::Freeze => self.done.frozen = true,
            Step::Capture => self.done.capture_ended = false,
            _ => {}
        }
        self.step = Some(step);
    }

    fn did(&mut self, step: Step) {
        match step {
            Step::Kill => self.done.killed = true,
            Step::Carry => self.done.carried = true,
            Step::EndCapture => self.done.capture_ended = true,
            Step::Clean => {
                self.step = None;
                return;
            }
            _ => {}
        }
        let next = match step {
            Step::Preflight => Step::Prepare,
            Step::Prepare => Step::PreCopy,
            Step::PreCopy => Step::StartWatchdog,
            Step::StartWatchdog => Step::RaiseFence,
            Step::RaiseFence => Step::Freeze,
            Step::Freeze => Step::Capture,
            Step::Capture => Step::Seal,
            Step::AwaitHeld => Step::CheckStill,
            Step::CheckStill => Step::Decide(Verdict::Released),
            Step::Go => Step::Kill,
            Step::Kill | Step::Carry => self.after_kill_and_carry(),
            Step::Retire => Step::LowerFence,
            Step::EndCapture => Step::Thaw,
            Step::Thaw if self.done.capture_ended => Step::Sweep,
            // CRIU writes FROZEN at its orderly end, which is still to come.
            Step::Thaw => Step::EndCapture,
            Step::Sweep => Step::LowerFence,
            Step::LowerFence if self.verdict == Some(Verdict::Kept) && self.done.prepared => Step::Discard,
            Step::LowerFence | Step::Discard => Step::Clean,
            // These have outcomes of their own and never come here.
            Step::Seal | Step::AskTarget | Step::Decide(_) | Step::Clean => return,
        };
        self.enter(next);
    }

    fn failed(&mut self, step: Step, failure: Failure) {
        match step {
            Step::Go => self.enter(Step::Kill),
            // Neither waits for the other: a task that won't die doesn't keep the target from running (it is
            // frozen or has SIGKILL pending), an unreachable target doesn't keep the source from dying.
            Step::Kill if !self.done.carried => self.enter(Step::Carry),
            Step::Carry if !self.done.killed => self.enter(Step::Kill),
            // A source that CRIU may freeze again is still better thawed once.
            Step::EndCapture => self.enter(Step::Thaw),
            // Nothing runs wrong without these, and nobody gains from trying for ever.
            Step::Sweep | Step::Discard | Step::Clean => {
                self.leftovers.push((step, failure));
                self.did(step);
            }
            // Nothing may go on without these.
            Step::Kill | Step::Carry | Step::Retire | Step::Thaw | Step::LowerFence => {}
            _ => self.undo(Trouble::Failed(failure)),
        }
    }

    fn after_kill_and_carry(&self) -> Step {
        match (self.done.killed, self.done.carried) {
            (false, _) => Step::Kill,
            (true, false) => Step::Carry,
            // What became of the container is for a person to see; its fence stays.
            (true, true) if matches!(self.trouble, Some(Trouble::Lost(_))) => Step::Clean,
            (true, true) => Step::Retire,
        }
    }

    fn stop(&mut self, trouble: Trouble) -> Heard {
        match self.step {
            None => return Heard::TooLate,
            // It may have been written already; what stands will tell.
            Some(Step::Decide(Verdict::Released)) => return Heard::TooLate,
            _ if self.verdict == Some(Verdict::Released) => return Heard::TooLate,
            _ if self.trouble.is_some() => return Heard::Undoing,
            _ => {}
        }
        self.failures_in_a_row = 0;
        self.undo(trouble);
        Heard::Undoing
    }

    /// Turns back. Before anything was asked of the target there is nothing to decide and nobody to tell.
    fn undo(&mut self, trouble: Trouble) {
        self.trouble.get_or_insert(trouble);
        if !self.done.prepared {
            self.step = None;
        } else {
            self.step = Some(Step::Decide(Verdict::Kept));
        }
    }

    fn follow(&mut self, record: &Record) {
        self.verdict = Some(record.verdict());
        match record.verdict() {
            Verdict::Released => {
                self.trouble = None;
                self.root = record.root();
                self.enter(Step::Go);
            }
            Verdict::Kept => {
                if self.trouble.is_none() {
                    self.trouble = record.reason().map(Trouble::of_record);
                }
                self.enter(if self.done.frozen {
                    Step::EndCapture
                } else if self.done.fenced {
                    Step::LowerFence
                } else {
                    Step::Discard
                });
            }
        }
    }

    fn undecided(&mut self, wish: Verdict, failure: Failure) {
        // What couldn't be released (no fence, a full disk) is kept, unless nothing is left to keep. The
        // same disk will be asked again until it answers; the watchdog's record needs no room on it.
        if wish == Verdict::Released && !self.gone {
            self.undo(Trouble::Failed(failure));
        }
    }

    fn hear_target(&mut self, report: TargetReport) {
        match report {
            TargetReport::Unknown => {}
            TargetReport::Unsealed => self.undo(Trouble::Failed(Failure::new(
                "SourceGone",
                "the source's processes ended before the target held their state; they start anew",
            ))),
            TargetReport::Sealed(root) => {
                self.root = Some(root);
                self.enter(Step::Decide(Verdict::Released));
            }
        }
    }

    fn ending_phase(&self) -> Phase {
        match self.trouble {
            None => Phase::Succeeded,
            Some(Trouble::Cancelled) => Phase::Cancelled,
            Some(_) => Phase::Failed,
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;

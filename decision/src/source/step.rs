use crate::{Failure, Record, Root, Verdict};

/// One thing for the agent to do. Each may have been done before, wholly or in part: it is done so that a
/// second time does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Can the container be captured here and run there? `Refused` if not.
    Preflight,
    /// The plan is written; the target expects the Pod, has the image, the volumes and a sandbox, and holds
    /// a connection. `Refused` if the target says that it can't.
    Prepare,
    /// Rounds of memory while the source runs: none for stop-and-copy.
    PreCopy,
    /// The watchdog runs in a cgroup of its own and has said `ready`: the freeze budget is counted from here.
    StartWatchdog,
    /// The fence of the source's Pod stands.
    RaiseFence,
    /// Every container of the Pod reads back as frozen.
    Freeze,
    /// CRIU has ended with success, and everything has been streamed. CRIU thaws the cgroup while it works.
    Capture,
    /// The target has received all and verified the root: `Sealed`.
    Seal,
    /// The target's CRI reports every container RUNNING, and every held task passed its check.
    AwaitHeld,
    /// The freezer reads back as frozen, no task has a tracer, the container ids are what they were.
    CheckStill,
    /// Write this verdict, unless one stands: `Stands` with the record that does.
    Decide(Verdict),
    /// After a crash that left no source: ask the target what it holds (`Target`). `Failed` asks again.
    AskTarget,

    /// Carry the signed record to the target once, quickly. Failing is no harm.
    Go,
    /// Kill the source's processes while they are frozen; none is left.
    Kill,
    /// Carry the signed record until the target has said that its containers run; `Lost` if it says that it
    /// has nothing left that could.
    Carry,
    /// The source's container and sandbox are removed. From here on its Pod UID is never used again.
    Retire,

    /// No CRIU is left at work on the source: given a short grace for its orderly end, then killed.
    EndCapture,
    /// Every container of the Pod reads back as thawed, or is gone.
    Thaw,
    /// CRIU's netfilter rules are gone from the Pod's network namespace.
    Sweep,
    /// The fence is lowered.
    LowerFence,
    /// Carry `kept` to the target within a bound; it discards what it has.
    Discard,
    /// The work folder is unmounted and removed, the watchdog ended, the migration marked as done.
    Clean,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As its description says.
    Done,
    /// [`Step::Seal`]: this root is sealed and verified.
    Sealed(Root),
    /// [`Step::Decide`]: this record stands, durably.
    Stands(Record),
    /// [`Step::AskTarget`]: the target's answer.
    Target(TargetReport),
    /// [`Step::Carry`]: the target has lost its images after `released` and can't run the containers. It
    /// fails closed. The fence stays: whether the container starts anew on the source is for a person.
    Lost(Failure),
    /// [`Step::Preflight`] and [`Step::Prepare`]: it can't be migrated, and nothing was touched.
    Refused(Failure),
    /// It didn't work.
    Failed(Failure),
}

/// What the target says of its state when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetReport {
    /// It can't be reached, or doesn't know yet.
    Unknown,
    /// It doesn't hold a whole, verified tree, or has discarded it.
    Unsealed,
    /// It holds this tree: sealed, restoring, held or running.
    Sealed(Root),
}

/// What a stop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The migration is being undone: drop the step at work and ask [`Source::next`](super::Source::next).
    Undoing,
    /// The target's copy is the only one left and is being released: likewise drop the step at work.
    Releasing,
    /// It is decided, or being decided, or over. Nothing changed.
    TooLate,
}

/// A step was said to have ended that isn't the one to be done, or in a way in which it can't end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step:?} ended out of turn or with an outcome that is not its own; to be done: {expected:?}")]
pub struct OutOfTurn {
    /// The step that was said to have ended.
    pub step: Step,
    /// The step to be done.
    pub expected: Option<Step>,
}

/// Where a user sees a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Looking whether it can be done.
    Preflight,
    /// The target is being made ready; the source runs.
    Preparing,
    /// Memory is copied; the source runs.
    PreCopying,
    /// The source is frozen and captured.
    Frozen,
    /// The target restores and holds; the source is frozen.
    Restoring,
    /// The target owns the container.
    Released,
    /// Done.
    Succeeded,
    /// The source runs on (but see [`Ending::Lost`]).
    Failed,
    /// The source runs on, as was asked for.
    Cancelled,
}

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The target runs, the source is retired.
    Succeeded,
    /// It couldn't be begun; nothing was frozen.
    Refused(Failure),
    /// It was undone; the source runs on.
    Failed(Failure),
    /// It was undone as was asked for; the source runs on.
    Cancelled,
    /// Released, and then lost by the target: the container runs nowhere, its Pod is still fenced.
    Lost(Failure),
}

//! The loop that brings a migration from its first step to its last.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use transship_decision::source::{Ending, Outcome, Processes, Step};
use transship_decision::{Failure, Lock, MigrationId, Source, Verdict};
use transship_dial::Dialled;
use transship_proto::v1::{self, Capture, MigrateEvent, MigrateRequest};
use transship_proto::{Fault, Reason};
use transship_transfer::Sender;

use super::capture::Captured;
use super::events::{Audience, Events};
use super::guard::Guard;
use super::plan::Departure;
use super::preflight::Cleared;
use crate::faults;
use crate::host::{Armed, Workspace};
use crate::node::Node;
use crate::plan::Owner;
use crate::pods::{Handover, Move, Standing};
use crate::steps::{back_off, name};

/// How long a workload may stand still where nothing else was asked for.
const DEFAULT_BUDGET: Duration = Duration::from_secs(10);

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The Pod, by its name or by ID or name of one of its containers; empty where `pod` says which.
    pub container: String,
    /// A Pod that kubelets own, and what it becomes.
    pub pod: Option<Move>,
    /// HOST:PORT of the target's agent.
    pub target: String,
    /// How its state is captured.
    pub capture: Capture,
    /// How long it may stand still.
    pub budget: Duration,
}

impl From<MigrateRequest> for Wish {
    fn from(request: MigrateRequest) -> Self {
        Self {
            capture: request.capture(),
            container: request.container,
            pod: None,
            target: request.target,
            budget: budget(request.freeze_budget_ms),
        }
    }
}

impl Wish {
    /// A Pod is to become another; `budget_ms` is 0 for the default.
    pub fn of_pod(pod: Move, target: String, capture: Capture, budget_ms: u32) -> Self {
        Self { container: String::new(), pod: Some(pod), target, capture, budget: budget(budget_ms) }
    }

    /// Who makes and removes the Pod on both ends.
    pub fn owner(&self) -> Owner {
        if self.pod.is_some() { Owner::Kubelet } else { Owner::Agent }
    }
}

fn budget(millis: u32) -> Duration {
    if millis == 0 { DEFAULT_BUDGET } else { Duration::from_millis(millis.into()) }
}

/// A migration at work. What is in an `Option` is there from some step on; all of it can be lost, for the plan, the
/// record and the node itself tell everything that is needed to end it.
pub struct Migration {
    pub(super) node: Arc<Node>,
    pub(super) id: MigrationId,
    pub(super) machine: Source,
    pub(super) events: Events,
    pub(super) wish: Option<Wish>,
    pub(super) cleared: Option<Cleared>,
    pub(super) plan: Option<Departure>,
    pub(super) connection: Option<Dialled>,
    pub(super) prepared: Option<v1::PrepareResponse>,
    pub(super) lock: Option<Lock>,
    pub(super) workspace: Option<Workspace>,
    pub(super) sender: Option<Sender>,
    pub(super) armed: Vec<Armed>,
    pub(super) guard: Option<Guard>,
    pub(super) captured: Captured,
    pub(super) criu_log: String,
    /// At the end a container's first process was gone.
    pub(super) taken_along: bool,
    /// How it ends, where that was kept.
    pub(super) outcome: Option<v1::Outcome>,
}

impl Migration {
    /// A migration with nothing done.
    pub(super) fn new(node: Arc<Node>, id: MigrationId, machine: Source, events: Events) -> Self {
        Self {
            node,
            id,
            machine,
            events,
            wish: None,
            cleared: None,
            plan: None,
            connection: None,
            prepared: None,
            lock: None,
            workspace: None,
            sender: None,
            armed: Vec::new(),
            guard: None,
            captured: Captured::default(),
            criu_log: String::new(),
            taken_along: false,
            outcome: None,
        }
    }

    pub(super) fn plan(&self) -> Result<&Departure, Fault> {
        self.plan.as_ref().ok_or_else(|| missing("a plan"))
    }

    pub(super) fn cleared(&self) -> Result<&Cleared, Fault> {
        self.cleared.as_ref().ok_or_else(|| missing("a preflight"))
    }

    /// How it ends, if nothing changes any more.
    pub(super) fn outcome(&self) -> v1::Outcome {
        let (migrated, refused, failure) = match self.machine.coming_ending() {
            Ending::Succeeded => (true, false, None),
            Ending::Refused(failure) => (false, true, Some(failure)),
            Ending::Failed(failure) if self.taken_along => (false, false, Some(ended_too(&failure))),
            Ending::Failed(failure) | Ending::Lost(failure) => (false, false, Some(failure)),
            Ending::Cancelled => (false, false, self.machine.trouble()),
        };
        let failure = failure.unwrap_or_else(|| Failure::new("", ""));
        let prepared = self.prepared.clone().unwrap_or_default();
        self.events.timed(v1::Outcome {
            migrated,
            refused,
            reason: failure.reason,
            message: failure.message,
            bytes: Some(self.captured.bytes),
            target_container: prepared.container_ids.into_iter().next().unwrap_or_default(),
            target_ip: prepared.pod_ip,
            criu_log: kept_log(self),
            ..v1::Outcome::default()
        })
    }
}

/// A migration that failed, and whose source doesn't run on: CRIU may take a container along when it is killed.
fn ended_too(failure: &Failure) -> Failure {
    let ended = Reason::WorkloadEnded.as_ref();
    if failure.reason == ended {
        return failure.clone();
    }
    let Failure { reason, message, .. } = failure;
    Failure::new(
        ended,
        format!(
            "a container's first process has ended and runs on neither node; before that: {message} ({reason})"
        ),
    )
}

/// A step was asked for before the one that it rests on: a bug, told rather than panicked about.
pub(super) fn missing(what: &str) -> Fault {
    Fault::new(Reason::HostError, format!("the migration has no {what} yet"))
}

/// Moves a Pod with all its running containers. Ends when it runs there or is known to run on here; `cancel` is heard
/// until the decision.
pub async fn migrate(
    node: Arc<Node>,
    wish: Wish,
    listener: mpsc::Sender<MigrateEvent>,
    cancel: CancellationToken,
) {
    let events = Events::new(Audience::Caller(listener));
    match format!("m-{}", uuid::Uuid::new_v4()).parse() {
        Ok(id) => {
            let mut migration = Migration::new(node, id, Source::new(), events);
            migration.wish = Some(wish);
            drive(&mut migration, &cancel).await;
        }
        Err(error) => warn!(%error, "a migration could not be named"),
    }
}

/// Moves a Pod that kubelets own, as [`migrate`] does; whoever follows `handover` hears of it.
pub async fn hand_over(node: Arc<Node>, id: MigrationId, wish: Wish, handover: Arc<Handover>) {
    let cancel = handover.cancel.clone();
    let mut migration = Migration::new(node, id, Source::new(), Events::new(Audience::Followers(handover)));
    migration.wish = Some(wish);
    drive(&mut migration, &cancel).await;
}

/// Does step after step until none is left.
pub(super) async fn drive(migration: &mut Migration, cancel: &CancellationToken) {
    while let Some(step) = migration.machine.next() {
        back_off(migration.machine.failures_in_a_row()).await;
        migration.events.stands(standing(&migration.machine));
        migration.events.step(step);
        info!(migration = %migration.id, ?step, "begins");
        faults::at(&format!("source:{}", name(&step)));
        let outcome = match interruptible(migration, step, cancel).await {
            Ok(outcome) => outcome,
            Err(stopped) => {
                warn!(migration = %migration.id, ?step, %stopped, "was stopped");
                continue;
            }
        };
        if let Outcome::Failed(failure) | Outcome::Refused(failure) | Outcome::Lost(failure) = &outcome {
            warn!(migration = %migration.id, ?step, %failure, "failed");
        }
        if let Err(error) = migration.machine.finished(step, outcome) {
            warn!(migration = %migration.id, %error, "a stop came first");
        }
    }
    conclude(migration);
}

/// What a cancel can still do.
fn standing(machine: &Source) -> Standing {
    match (machine.verdict(), machine.next()) {
        (Some(Verdict::Released), _) | (None, Some(Step::Decide(Verdict::Released))) => Standing::Decided,
        (Some(Verdict::Kept), _) => Standing::Undone,
        (None, _) if machine.trouble().is_some() => Standing::Undone,
        (None, _) => Standing::Open,
    }
}

/// A step, unless something outside of it stops the whole: then the machine knows, and the step is dropped.
async fn interruptible(
    migration: &mut Migration,
    step: Step,
    cancel: &CancellationToken,
) -> Result<Outcome, Failure> {
    let stops = Stops::of(migration, step, cancel);
    tokio::select! {
        outcome = perform(migration, step) => return Ok(outcome),
        stop = stops.first() => match stop {
            Stop::Cancelled => { migration.machine.cancel(); }
            Stop::Failed(fault) => { migration.machine.fail(failure(fault)); }
            // As long as another container of the Pod runs, what the target holds isn't the only copy.
            Stop::SourceGone(fault) => match migration.plan().and_then(Departure::processes) {
                Ok(Processes::Gone) => { migration.machine.source_gone(failure(fault)); }
                _ => { migration.machine.fail(failure(fault)); }
            },
        },
    }
    Err(migration.machine.trouble().unwrap_or_else(|| Failure::new("Cancelled", "stopped")))
}

/// What can stop a step from outside.
struct Stops {
    stoppable: Stoppable,
    cancel: CancellationToken,
    shutdown: CancellationToken,
    guard: Option<super::guard::Watch>,
}

/// What may drop a step half-way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stoppable {
    Never,
    ByCancel,
    ByAll,
}

enum Stop {
    Cancelled,
    Failed(Fault),
    SourceGone(Fault),
}

impl Stops {
    fn of(migration: &Migration, step: Step, cancel: &CancellationToken) -> Self {
        Self {
            stoppable: stoppable(step, migration.plan.as_ref()),
            cancel: cancel.clone(),
            shutdown: migration.node.shutdown.clone(),
            guard: migration.guard.as_ref().map(Guard::watch),
        }
    }

    /// Ends with the first stop; never, during steps that nothing can stop any more.
    async fn first(self) -> Stop {
        match self.stoppable {
            Stoppable::Never => std::future::pending().await,
            Stoppable::ByCancel => {
                self.cancel.cancelled().await;
                return Stop::Cancelled;
            }
            Stoppable::ByAll => {}
        }
        let guard = self.guard;
        let frozen = async {
            match guard {
                Some(watch) => watch.first().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Stop::Cancelled,
            () = self.shutdown.cancelled() => {
                Stop::Failed(Fault::new(Reason::AgentRestarted, "the agent was told to end before the migration was decided"))
            }
            alarm = frozen => match alarm {
                super::guard::Alarm::BudgetOver(fault) => Stop::Failed(fault),
                super::guard::Alarm::ProcessGone(fault) => Stop::SourceGone(fault),
            },
        }
    }
}

/// Whether a step may be dropped half-way. Up to the decision nearly all may; the decision and all after it can't be.
///
/// Not the freeze: it is short, and its thread would go on freezing what is being thawed. Not a checkpoint by the
/// container runtime: containerd whose caller goes away believes for ever after that the container is paused. A target
/// that may hold the only copy is asked as long as nobody cancels; the next agent goes on with that.
fn stoppable(step: Step, plan: Option<&Departure>) -> Stoppable {
    use Step::{
        AskTarget, AwaitHeld, Capture, CheckStill, PreCopy, Preflight, Prepare, RaiseFence, Seal,
        StartWatchdog,
    };
    match step {
        Capture if plan.is_some_and(|plan| plan.paused_by_runtime) => Stoppable::Never,
        Capture | Preflight | Prepare | PreCopy | StartWatchdog | RaiseFence | Seal | AwaitHeld
        | CheckStill => Stoppable::ByAll,
        AskTarget => Stoppable::ByCancel,
        _ => Stoppable::Never,
    }
}

async fn perform(migration: &mut Migration, step: Step) -> Outcome {
    let result = match step {
        Step::Preflight => return refused_or_done(migration.preflight().await),
        Step::Prepare => return refused_or_done(migration.prepare().await),
        // Rounds of memory will go here.
        Step::PreCopy => Ok(()),
        Step::StartWatchdog => migration.start_watchdog().await,
        Step::RaiseFence => migration.raise_fence(),
        Step::Freeze => migration.freeze().await,
        Step::Capture => migration.capture().await,
        Step::Seal => {
            return migration
                .seal()
                .await
                .map_or_else(|fault| Outcome::Failed(failure(fault)), Outcome::Sealed);
        }
        Step::AwaitHeld => migration.await_held().await,
        Step::CheckStill => migration.check_still().await,
        Step::Decide(verdict) => {
            return migration
                .decide(verdict)
                .map_or_else(|fault| Outcome::Failed(failure(fault)), Outcome::Stands);
        }
        Step::AskTarget => {
            return migration
                .ask_target()
                .await
                .map_or_else(|fault| Outcome::Failed(failure(fault)), Outcome::Target);
        }
        Step::Go => migration.go().await,
        Step::Kill => migration.kill().await,
        Step::Carry => return migration.carry().await,
        Step::Retire => migration.retire().await,
        Step::EndCapture => migration.end_capture().await,
        Step::Thaw => migration.thaw().await,
        Step::Sweep => migration.sweep().await,
        Step::LowerFence => migration.lower_fence(),
        Step::Discard => migration.discard().await,
        Step::Clean => migration.clean().await,
    };
    result.map_or_else(|fault| Outcome::Failed(failure(fault)), |()| Outcome::Done)
}

fn refused_or_done(result: Result<(), Fault>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(fault) => Outcome::Refused(failure(fault)),
    }
}

/// A fault as the machine and the record carry it.
pub(super) fn failure(fault: Fault) -> Failure {
    Failure::new(fault.reason.as_ref(), fault.message)
}

/// Keeps CRIU's log of what failed beside the record, and says where: `NODE:FILE`; nothing if there is none.
fn kept_log(migration: &Migration) -> String {
    if migration.criu_log.is_empty() {
        return String::new();
    }
    let file = migration.node.state.migration_path(&migration.id).join("criu.log");
    match std::fs::write(&file, &migration.criu_log) {
        Ok(()) => format!("{}:{}", migration.node.name(), file.display()),
        Err(error) => {
            warn!(migration = %migration.id, %error, log = migration.criu_log, "CRIU's log can't be kept; here it is");
            "in the agent's own log".into()
        }
    }
}

fn conclude(migration: &mut Migration) {
    for (step, failure) in migration.machine.leftovers() {
        warn!(migration = %migration.id, ?step, %failure, "something is left to be looked after");
    }
    let outcome = migration.outcome.take().unwrap_or_else(|| migration.outcome());
    let v1::Outcome { migrated, reason, message, .. } = &outcome;
    info!(migration = %migration.id, migrated, reason, message, "is over");
    migration.node.departures.free(&migration.id);
    if migration.plan.is_none() {
        // Refused before it was begun: the same name may be tried again.
        migration.node.handovers.remove(&migration.id);
    }
    // Whoever hears of the end may have it forgotten at once.
    migration.lock = None;
    migration.events.over(outcome);
}

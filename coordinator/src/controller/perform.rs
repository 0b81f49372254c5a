//! Doing one step.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::{Context, lock, survey::survey};
use crate::agents::Failure;
use crate::api::{PodMigration, condition};
use crate::cluster::{ClusterError, Creation};
use crate::place::Wish;
use crate::plan::{Answer, Begun, Cancelled, Step};
use crate::queue::{Route, Turn};
use crate::target::Refusal;

/// How soon the API server's objects are looked at while an agent is at work: how much has been moved is shown by that.
const LOOK: Duration = Duration::from_secs(2);
/// How soon is tried again what can't be done now.
const LATER: Duration = Duration::from_secs(5);
/// How long one waits for a turn that is told of at once.
const TURN: Duration = Duration::from_secs(30);

/// The Pods as they were seen.
pub struct Pods<'a> {
    pub source: Option<&'a Pod>,
    pub target: Option<&'a Pod>,
}

/// How a step went.
pub enum Went {
    /// Done: the objects tell the rest.
    On,
    /// The migration's own object has changed.
    Changed(Box<PodMigration>),
    /// Answered.
    Said(Answer),
    /// Nothing more for so long.
    Waits(Duration),
    /// Both.
    SaidAndWaits(Answer, Duration),
    /// There is nothing left to bring on.
    Gone,
}

type Result<T> = std::result::Result<T, ClusterError>;

pub async fn perform(
    context: &Context,
    migration: &PodMigration,
    pods: &Pods<'_>,
    step: Step,
    at: &ObjectRef<PodMigration>,
) -> Result<Went> {
    let cluster = &context.cluster;
    match step {
        Step::Record => {}
        Step::Hold => return Ok(Went::Changed(Box::new(cluster.set_held(migration, true).await?))),
        Step::Free => {
            cluster.set_held(migration, false).await?;
            return Ok(Went::Waits(LATER));
        }
        Step::Expire => {
            cluster.delete_migration(migration).await?;
            return Ok(Went::Gone);
        }
        Step::Survey => {
            let Some(pod) = pods.source else { return Ok(Went::Waits(LATER)) };
            let wish = Wish {
                pod,
                target_node: migration.spec.target_node.as_deref(),
                node_selector: &migration.spec.node_selector,
            };
            return Ok(Went::Said(survey(cluster, &context.agents, &wish).await?));
        }
        Step::Preflight(mut asked) => {
            let said = match ends(context, migration).await? {
                Ok(ends) => {
                    asked.target = ends.address;
                    let said = context.agents.preflight(&ends.source, asked).await;
                    said.map_err(|failure| named(failure, &ends.source))
                }
                Err(why) => Err(why),
            };
            return Ok(Went::Said(Answer::Preflight(Box::new(said))));
        }
        Step::TakeTurn(route) => return Ok(take_turn(context, migration, route, at)),
        Step::Mark => {
            cluster.protect(migration).await?;
            if let Some(source) = pods.source {
                cluster.label(source, Some(&migration.name_any())).await?;
            }
        }
        Step::Create(pod) => match cluster.create(&pod).await? {
            Creation::There => {}
            Creation::Later(why) => return Ok(Went::SaidAndWaits(Answer::Later(why), LATER)),
            Creation::Refused(why) => return Ok(Went::Said(Answer::NotCreated(why))),
        },
        Step::Begin(mut asked) => {
            let begun = match ends(context, migration).await? {
                Ok(ends) => {
                    asked.target = ends.address;
                    cluster.may_write()?;
                    match context.agents.begin(&ends.source, asked).await {
                        Ok(()) => Begun::Acknowledged,
                        Err(Failure::Told(why) | Failure::Unknown(why)) => Begun::Refused(why),
                        Err(failure) => Begun::Unanswered(named(failure, &ends.source)),
                    }
                }
                Err(why) => Begun::Unanswered(why),
            };
            return Ok(match begun {
                Begun::Unanswered(_) => Went::SaidAndWaits(Answer::Begun(begun), LATER),
                _ => Went::Said(Answer::Begun(begun)),
            });
        }
        Step::Follow => return Ok(Went::Waits(LOOK)),
        Step::Cancel => return cancel(context, migration).await,
        Step::AskTarget => {
            let node = migration.status.as_ref().and_then(|status| status.target.as_ref());
            let Some(node) = cluster.node(node.map(|target| &*target.node).unwrap_or_default()).await? else {
                return Ok(Went::Said(Answer::Target(None)));
            };
            return Ok(match context.agents.state(&node, &migration.uid().unwrap_or_default()).await {
                Ok(state) => Went::SaidAndWaits(Answer::Target(Some(state)), LOOK),
                Err(Failure::Unreachable(why)) => Went::SaidAndWaits(Answer::Later(why), LATER),
                Err(_) => Went::Said(Answer::Target(None)),
            });
        }
        Step::Ungate => each(pods.target, async |target| cluster.ungate(target).await).await?,
        Step::MakeReady(patch) => {
            each(pods.target, async |target| cluster.patch_pod_status(target, patch).await).await?;
        }
        Step::Adopt(patch) => {
            each(pods.target, async |target| cluster.patch_pod(target, patch).await).await?;
        }
        Step::Release(patch) => {
            each(pods.source, async |source| cluster.patch_pod(source, patch).await).await?;
        }
        Step::DeleteSource => each(pods.source, async |source| cluster.delete_pod(source).await).await?,
        Step::DeleteTarget => each(pods.target, async |target| cluster.delete_pod(target).await).await?,
        Step::UnmarkSource => each(pods.source, async |source| cluster.label(source, None).await).await?,
        Step::UnmarkTarget => each(pods.target, async |target| cluster.label(target, None).await).await?,
        Step::Forget(nodes) => return forget(context, migration, &nodes).await,
        Step::Wait(pause) => return Ok(Went::Waits(pause)),
    }
    Ok(Went::On)
}

async fn each(pod: Option<&Pod>, change: impl AsyncFnOnce(&Pod) -> Result<()>) -> Result<()> {
    match pod {
        Some(pod) => change(pod).await,
        None => Ok(()),
    }
}

/// The source's node, and where the target's agent listens.
struct Ends {
    source: Node,
    address: String,
}

async fn ends(context: &Context, migration: &PodMigration) -> Result<std::result::Result<Ends, Refusal>> {
    let status = migration.status.as_ref();
    let source = status.and_then(|status| status.source.as_ref()).map(|source| source.node.as_str());
    let target = status.and_then(|status| status.target.as_ref()).map(|target| target.node.as_str());
    let (source, target) = (source.unwrap_or_default(), target.unwrap_or_default());
    let (found, other) = tokio::try_join!(context.cluster.node(source), context.cluster.node(target))?;
    let missing = |node: &str| Refusal::new("NodeNotFound", format!("there is no node {node}"));
    Ok(match (found, other) {
        (None, _) => Err(missing(source)),
        (_, None) => Err(missing(target)),
        (Some(source), Some(target)) => {
            context.agents.address(&target).map(|address| Ends { source, address })
        }
    })
}

/// What the source's agent says of itself is told as it is; that it can't be reached is told of *it*, since for agents
/// among themselves only a target can be unreachable.
fn named(failure: Failure, source: &Node) -> Refusal {
    match failure {
        Failure::Unreachable(why) if why.reason == "TargetUnreachable" || why.reason == "RuntimeError" => {
            let what = format!(
                "the agent of {}, where the Pod runs, doesn't answer: {}",
                source.name_any(),
                why.message
            );
            Refusal::new("SourceUnreachable", what)
        }
        other => other.refusal(),
    }
}

fn take_turn(
    context: &Context,
    migration: &PodMigration,
    route: Route,
    at: &ObjectRef<PodMigration>,
) -> Went {
    let uid = migration.uid().unwrap_or_default();
    lock(&context.queued).insert(uid.clone(), at.clone());
    let since = migration.metadata.creation_timestamp.clone().unwrap_or_else(super::now);
    let (turn, granted) = lock(&context.queue).ask(&uid, route, since);
    context.wake(&granted);
    match turn {
        Turn::Granted => {
            lock(&context.queued).remove(&uid);
            Went::Said(Answer::Turn(Turn::Granted))
        }
        waits => Went::SaidAndWaits(Answer::Turn(waits), TURN),
    }
}

async fn cancel(context: &Context, migration: &PodMigration) -> Result<Went> {
    let uid = migration.uid().unwrap_or_default();
    let status = migration.status.clone().unwrap_or_default();
    let node = status.source.as_ref().map(|source| source.node.as_str()).unwrap_or_default();
    let cancelled = match context.cluster.node(node).await? {
        Some(node) => {
            context.cluster.may_write()?;
            match context.agents.cancel(&node, &uid).await {
                Ok(()) | Err(Failure::Told(_)) => Cancelled::Known,
                Err(Failure::Unknown(_)) => Cancelled::Unknown,
                Err(Failure::Unreachable(why)) => Cancelled::Unanswered(why),
            }
        }
        None => Cancelled::Unanswered(Refusal::new("NodeNotFound", format!("there is no node {node}"))),
    };
    let begun = condition(&status, crate::api::ConditionType::Begun);
    let answer = Answer::Cancelled(cancelled);
    Ok(if begun.is_some_and(|begun| begun.status == "True") {
        Went::SaidAndWaits(answer, LOOK)
    } else {
        Went::Said(answer)
    })
}

async fn forget(context: &Context, migration: &PodMigration, nodes: &[String]) -> Result<Went> {
    context.cluster.unprotect(migration).await?;
    let uid = migration.uid().unwrap_or_default();
    let mut forgotten = Ok(());
    for name in nodes {
        // A node that is gone has nothing left to forget.
        let Some(node) = context.cluster.node(name).await? else { continue };
        context.cluster.may_write()?;
        if let Err(failure) = context.agents.forget(&node, &uid).await {
            let why = failure.refusal();
            let what = format!("the agent of {name} still keeps the migration: {}", why.message);
            forgotten = Err(Refusal::new(why.reason, what));
        }
    }
    Ok(match forgotten {
        Ok(()) => Went::Said(Answer::Forgotten(Ok(()))),
        Err(why) => Went::SaidAndWaits(Answer::Forgotten(Err(why)), LATER),
    })
}

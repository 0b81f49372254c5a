//! The agent as a process: what it serves, and how it ends.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing::{error, info, warn};
use transship_decision::{LockError, MigrationId, Verdict};
use transship_proto::v1::agent_server::AgentServer;
use transship_proto::v1::pods_server::PodsServer;
use transship_proto::v1::source_server::SourceServer;
use transship_proto::v1::target_server::TargetServer;
use transship_proto::{Fault, Reason};

use crate::config::Config;
use crate::host::{failed, leave_watchdog, remove_empty_helpers};
use crate::node::Node;
use crate::plan::{Owner, Plan, migration_id};
use crate::rpc::{LocalService, PodsService, SourceService, TargetService, listen};
use crate::{source, target};

/// How long the record of a migration that is over is kept: somebody may still ask for it.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long migrations may take to come to a safe point when the agent is told to end.
const DRAIN: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't begin: the identity is unusable, an address is taken, a folder can't be made.
pub async fn run(config: Config) -> Result<(), Fault> {
    let node = Arc::new(Node::new(config.clone(), config.listen)?);
    for folder in
        [node.run.path().join("restored"), node.run.path().join("work"), node.state.path().to_path_buf()]
    {
        std::fs::create_dir_all(&folder).map_err(failed(format_args!("making {}", folder.display())))?;
    }
    let calls = listen(&node.identity, config.listen).await?;
    let wrappers = bind(&node.run.runtime_socket())?;
    let people = bind(&node.run.agent_socket())?;
    info!(node = node.name(), listen = %config.listen, "the agent serves");

    tidy(&node);
    take_up_all(&node);
    node.tasks.spawn(target::serve(Arc::clone(&node), wrappers));
    node.tasks.spawn(target::receive(Arc::clone(&node)));
    let ends = node.shutdown.clone();
    let local = Server::builder()
        .add_service(AgentServer::new(LocalService(Arc::clone(&node))))
        .serve_with_incoming_shutdown(UnixListenerStream::new(people), ends.clone().cancelled_owned());
    let remote = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(TargetServer::new(TargetService(Arc::clone(&node))))
        .add_service(SourceServer::new(SourceService(Arc::clone(&node))))
        .add_service(PodsServer::new(PodsService(Arc::clone(&node))))
        .serve_with_incoming_shutdown(calls, ends.clone().cancelled_owned());
    let serving = async { tokio::try_join!(local, remote).map(drop) };
    tokio::pin!(serving);
    tokio::select! {
        ended = &mut serving => ended.map_err(|error| Fault::new(Reason::HostError, format!("serving calls failed: {error}")))?,
        told = told_to_end() => told?,
    }

    info!("the agent was told to end");
    node.shutdown.cancel();
    node.tasks.close();
    let drained = async {
        node.tasks.wait().await;
        node.endpoint.close().await;
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        warn!("migrations are still at work; whoever comes next takes them up");
    }
    Ok(())
}

/// Brings one migration to its end without an agent: what the watchdog calls when the agent is gone.
///
/// # Errors
/// When it can't begin. That another process is at it already is none.
pub async fn recover(config: Config, migration: &str) -> Result<(), Fault> {
    let migration = migration_id(migration)?;
    // The agent's own address may be wanted by the next agent.
    let anywhere = if config.listen.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let anywhere = anywhere.parse().map_err(|error| Fault::new(Reason::HostError, format!("{error}")))?;
    let node = Arc::new(Node::new(config, anywhere)?);
    if let Err(fault) = leave_watchdog() {
        // The next agent removes what is left then.
        warn!(%migration, %fault, "stays where it was started");
    }
    let socket = node.run.runtime_socket();
    if std::os::unix::net::UnixStream::connect(&socket).is_err() {
        node.tasks.spawn(target::serve(Arc::clone(&node), bind(&socket)?));
    }
    take_up(Arc::clone(&node), migration.clone()).await?;
    let standing = node.state.standing(&migration);
    let standing = standing.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    let released = standing.is_some_and(|signed| signed.record().verdict() == Verdict::Released);
    if let (true, Some(Plan::Arrival(plan))) = (released, Plan::load(&node.state, &migration)?) {
        target::tell_source(&node, &plan).await;
    }
    Ok(())
}

/// Forgets what has been over for long, and removes what the last helper of a migration couldn't remove itself.
fn tidy(node: &Node) {
    let tidied = || -> Result<(), Fault> {
        let host_error = |error: &dyn std::fmt::Display| Fault::new(Reason::HostError, error.to_string());
        for migration in node.state.migrations().map_err(|error| host_error(&error))? {
            let Ok(done) = std::fs::metadata(node.state.done_path(&migration)) else { continue };
            remove_empty_helpers(&migration)?;
            let age = done.modified().ok().and_then(|at| at.elapsed().ok());
            // A Pod's markers and outcome stand until its coordinator has settled it.
            let owner = Plan::load(&node.state, &migration).ok().flatten().map(|plan| plan.owner());
            if owner != Some(Owner::Kubelet) && age.is_some_and(|age| age > REMEMBERED) {
                node.state.forget(&migration).map_err(|error| host_error(&error))?;
            }
        }
        Ok(())
    };
    if let Err(fault) = tidied() {
        warn!(%fault, "what is over could not be tidied up");
    }
}

/// Everything that a former agent has left unfinished.
fn take_up_all(node: &Arc<Node>) {
    let unfinished = match node.state.unfinished() {
        Ok(unfinished) => unfinished,
        Err(error) => return error!(%error, "what is unfinished can't be listed"),
    };
    for migration in unfinished {
        let node = Arc::clone(node);
        node.tasks.clone().spawn(async move {
            if let Err(fault) = take_up(node, migration.clone()).await {
                error!(%migration, %fault, "can't be taken up");
            }
        });
    }
}

async fn take_up(node: Arc<Node>, migration: MigrationId) -> Result<(), Fault> {
    let lock = match node.state.lock(&migration) {
        Ok(lock) => lock,
        Err(LockError::Held(_)) => {
            info!(%migration, "is at work in another process");
            return Ok(());
        }
        Err(error) => return Err(Fault::new(Reason::HostError, error.to_string())),
    };
    if node.state.done_path(&migration).exists() {
        return Ok(());
    }
    match Plan::load(&node.state, &migration)? {
        Some(Plan::Departure(plan)) => source::recover(node, migration, *plan, lock).await,
        Some(Plan::Arrival(plan)) => target::recover(node, *plan, lock).await,
        None => Err(Fault::new(
            Reason::LeftoverOf,
            format!("migration {migration} was begun without a plan; remove its folder"),
        )),
    }
}

/// A unix socket for root alone, in place of one that a former agent left.
fn bind(path: &Path) -> Result<UnixListener, Fault> {
    let doing = || failed(format!("making the socket {}", path.display()));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(doing()(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(doing())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(doing())?;
    Ok(listener)
}

async fn told_to_end() -> Result<(), Fault> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("listening for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("listening for SIGINT"))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

//! The node's OCI wrappers, each of which asks what to do with a `create`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};
use transship_decision::Marker;
use transship_decision::target::{Answer, Ask};
use transship_decision::wire::{self, Reply, Request};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use super::assemble::assemble;
use super::drive::failure;
use super::hold::hold;
use super::restore_watch::RestoreWatch;
use crate::faults;
use crate::grants::Judge;
use crate::host::{Exit, failed};
use crate::node::Node;

/// Serves the wrapper's socket until the agent ends.
pub async fn serve(node: Arc<Node>, listener: UnixListener) {
    static ASKS: AtomicU64 = AtomicU64::new(0);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = node.shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let ask = Ask(ASKS.fetch_add(1, Ordering::Relaxed));
                let node = Arc::clone(&node);
                node.tasks.clone().spawn(async move {
                    if let Err(fault) = answer(&node, stream, ask).await {
                        warn!(%fault, "a wrapper could not be answered");
                    }
                });
            }
            Err(error) => warn!(%error, "a wrapper could not be heard"),
        }
    }
}

async fn answer(node: &Arc<Node>, mut stream: UnixStream, ask: Ask) -> Result<(), Fault> {
    let Some(request) = read(&mut stream).await? else { return Ok(()) };
    info!(pod = %request.pod_uid, container = request.container, "a wrapper asks");
    let marked = node.state.marked(Marker::Expected, &request.pod_uid);
    let Some(migration) = marked.map_err(|error| Fault::new(Reason::HostError, error.to_string()))? else {
        // Lowered between the wrapper's look and now: an ordinary create.
        return reply(&mut stream, &Reply::Create {}).await;
    };
    let Some(arrival) = node.arrivals.get(&migration) else {
        let reason = format!("migration {migration} is being recovered on this node; it will be tried again");
        return reply(&mut stream, &Reply::Refuse { reason }).await;
    };
    match decided(&arrival, &request, ask, &mut stream).await {
        None => Ok(()),
        Some(Answer::Restore) => restore(node, &arrival, &request, stream).await,
        Some(Answer::Refuse(failure)) => {
            reply(&mut stream, &Reply::Refuse { reason: failure.to_string() }).await
        }
        Some(Answer::Create | Answer::Wait) => reply(&mut stream, &Reply::Create {}).await,
    }
}

/// The machine's answer, once there is one; nothing if the wrapper goes away before.
async fn decided(arrival: &AtWork, request: &Request, ask: Ask, stream: &mut UnixStream) -> Option<Answer> {
    let mut changes = arrival.changes();
    let mut first = true;
    loop {
        changes.borrow_and_update();
        // That one asks is news; that it still waits is none, or two that wait would wake each other for ever.
        let answer = if first {
            arrival.tell(|machine| machine.asked(&request.container, ask))
        } else {
            arrival.tell_quietly(|machine| machine.asked(&request.container, ask))
        };
        if answer != Answer::Wait {
            return Some(answer);
        }
        if std::mem::take(&mut first) {
            continue;
        }
        let mut byte = [0];
        tokio::select! {
            _ = changes.changed() => {}
            // The wrapper says nothing more: an end of file is its death.
            _ = stream.read(&mut byte) => {
                arrival.tell(|machine| machine.wrapper_gone(ask));
                return None;
            }
        }
    }
}

/// Restores in place of the create. Ends when the container is held, or when that is known to have failed.
async fn restore(
    node: &Arc<Node>,
    arrival: &Arc<AtWork>,
    request: &Request,
    mut stream: UnixStream,
) -> Result<(), Fault> {
    faults::at("target:restore");
    let result = restored(node, arrival, request, &mut stream).await;
    if let Err(fault) = &result {
        warn!(migration = %arrival.plan.migration, container = request.container, %fault, "could not be restored");
        reply(&mut stream, &Reply::Refuse { reason: fault.to_string() }).await.unwrap_or_else(|error| {
            info!(%error, "the wrapper had gone on");
        });
    }
    match result {
        Ok(exit) => {
            arrival.tell(|machine| machine.restore_ended(&request.container, Ok(())));
            let (arrival, container) = (Arc::clone(arrival), request.container.clone());
            node.tasks.spawn(async move { watch(&arrival, &container, &exit).await });
        }
        Err(fault) => arrival.tell(|machine| machine.restore_ended(&request.container, Err(failure(fault)))),
    }
    faults::at("target:held");
    Ok(())
}

/// Tells if a held container dies: a liveness probe or the OOM killer may take it, and then it is restored again.
async fn watch(arrival: &AtWork, container: &str, exit: &Exit) {
    tokio::select! {
        () = exit.wait() => {
            info!(migration = %arrival.plan.migration, container, "its first process has ended");
            arrival.tell(|machine| machine.died(container));
        }
        () = arrival.over.cancelled() => {}
    }
}

async fn restored(
    node: &Arc<Node>,
    arrival: &Arc<AtWork>,
    request: &Request,
    stream: &mut UnixStream,
) -> Result<Exit, Fault> {
    let (how, judge) = assemble(arrival, request).await?;
    let number = arrival.plan.container(&request.container)?.0;
    let watch = RestoreWatch::begin(&arrival.restore_cgroup(number)?, &judge.cgroup())?;
    info!(migration = %arrival.plan.migration, container = request.container, "everything is in its place; the runtime restores");
    reply(stream, &Reply::Restore(how)).await?;
    let held = ended_and_held(node, arrival, request, judge, stream).await;
    // Not before that: nobody else sees to what a CRIU lets go of. And not later: what is held is let run one day.
    watch.end(held).await
}

async fn ended_and_held(
    node: &Arc<Node>,
    arrival: &Arc<AtWork>,
    request: &Request,
    judge: Judge,
    stream: &mut UnixStream,
) -> Result<Exit, Fault> {
    // The socket goes with the runtime that the wrapper becomes: its end is the runtime's.
    let mut byte = [0];
    let ended = stream.read(&mut byte).await;
    ended.map_err(failed("waiting for the runtime that restores"))?;
    info!(migration = %arrival.plan.migration, container = request.container, "the runtime has ended");
    hold(node, arrival, request, judge).await
}

/// The request; none from whoever only looked whether somebody listens.
async fn read(stream: &mut UnixStream) -> Result<Option<Request>, Fault> {
    let unreadable =
        |why: String| Fault::new(Reason::HostError, format!("a wrapper's request can't be read: {why}"));
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while !line.contains(&b'\n') {
        if line.len() > wire::LONGEST_LINE {
            return Err(unreadable("it is too long".into()));
        }
        match stream.read(&mut chunk).await.map_err(|error| unreadable(error.to_string()))? {
            0 if line.is_empty() => return Ok(None),
            0 => return Err(unreadable("it ends half-way".into())),
            read => line.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    let end = line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len());
    line.truncate(end);
    let request: Request = wire::decode(&line).map_err(|error| unreadable(error.to_string()))?;
    if request.version == wire::VERSION {
        Ok(Some(request))
    } else {
        Err(unreadable(format!("version {} is spoken here, not {}", wire::VERSION, request.version)))
    }
}

async fn reply(stream: &mut UnixStream, reply: &Reply) -> Result<(), Fault> {
    let line = wire::encode(reply).map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
    stream.write_all(&line).await.map_err(failed("answering a wrapper"))
}

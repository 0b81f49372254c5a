//! Listening to sources' agents while migrations are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tracing::debug;
use transship_proto::v1::migrate_event::Event;

use crate::agents::{Agents, Failure};
use crate::cluster::Cluster;
use crate::plan::{Told, Trouble};
use crate::target::Refusal;

/// The pause after a connection was lost, and how long it grows to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// Who is listened to, by the migrations' UIDs. Nothing here is needed after a restart: an agent tells again.
#[derive(Debug, Default)]
pub struct Followers {
    running: Mutex<HashMap<String, Follower>>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Follower {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whom to listen to, and whom to tell.
pub struct Line {
    /// The migration's UID.
    pub migration: String,
    /// The source's node.
    pub node: String,
    /// How it is found.
    pub cluster: Cluster,
    /// How it is asked.
    pub agents: Agents,
    /// Called when something matters.
    pub poke: Box<dyn Fn() + Send + Sync>,
}

impl Followers {
    /// What has been told so far; listens from now on if nobody does.
    pub fn told(&self, migration: &str, line: impl FnOnce() -> Line) -> Told {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = running.entry(migration.to_owned()).or_insert_with(|| {
            let told = Arc::default();
            Follower { told: Arc::clone(&told), task: self.tasks.spawn(follow(line(), told)) }
        });
        follower.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody listens any more.
    pub fn stop(&self, migration: &str) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(migration);
    }
}

async fn follow(line: Line, told: Arc<Mutex<Told>>) {
    let mut pause = PAUSE.0;
    loop {
        let ended = listen(&line, &told, &mut pause).await;
        let trouble = match ended {
            Ok(()) => return,
            Err(Failure::Unknown(_)) => Trouble::Unknown,
            Err(failure) => Trouble::Unreachable(failure.refusal()),
        };
        debug!(migration = line.migration, node = line.node, ?trouble, "the agent tells nothing");
        let over = trouble == Trouble::Unknown;
        told.lock().unwrap_or_else(PoisonError::into_inner).trouble = Some(trouble);
        (line.poke)();
        if over {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Until the outcome.
async fn listen(line: &Line, told: &Mutex<Told>, pause: &mut Duration) -> Result<(), Failure> {
    let node = find(line).await?;
    let mut events = line.agents.watch(&node, &line.migration).await?;
    while let Some(event) = events.message().await? {
        *pause = PAUSE.0;
        let matters = !matches!(event.event, Some(Event::Progress(_)));
        let over = {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.hear(event);
            told.outcome.is_some()
        };
        if matters {
            (line.poke)();
        }
        if over {
            return Ok(());
        }
    }
    Err(Failure::Unreachable(Refusal::new("AgentUnreachable", "its agent ended the call without an outcome")))
}

async fn find(line: &Line) -> Result<Node, Failure> {
    let unreachable = |why: String| Failure::Unreachable(Refusal::new("AgentUnreachable", why));
    let found = line.cluster.node(&line.node).await.map_err(|error| unreachable(error.to_string()))?;
    found.ok_or_else(|| unreachable(format!("there is no node {}", line.node)))
}

//! What people ask on the node itself.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};
use transship_proto::v1::agent_server::Agent;
use transship_proto::v1::{MigrateEvent, MigrateRequest};

use crate::node::Node;
use crate::source::migrate;

/// How many events a slow listener may be behind before it misses some.
const EVENTS: usize = 256;

/// The service behind the agent's unix socket: whoever may open that is root.
#[derive(Debug)]
pub struct LocalService(pub Arc<Node>);

#[tonic::async_trait]
impl Agent for LocalService {
    type MigrateStream = Pin<Box<dyn Stream<Item = Result<MigrateEvent, Status>> + Send>>;

    async fn migrate(
        &self,
        request: Request<MigrateRequest>,
    ) -> Result<Response<Self::MigrateStream>, Status> {
        let (listener, events) = mpsc::channel(EVENTS);
        // Whoever stops listening wants it to stop: heard until the decision, never after.
        let cancel = CancellationToken::new();
        let guard: DropGuard = cancel.clone().drop_guard();
        let node = Arc::clone(&self.0);
        self.0.tasks.spawn(migrate(node, request.into_inner().into(), listener, cancel));
        let stream = ReceiverStream::new(events).map(move |event| {
            let _held = &guard;
            Ok(event)
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

//! What a source's agent asks of the target's.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use transship_proto::v1::target_server::Target;
use transship_proto::v1::{
    AwaitHeldRequest, AwaitHeldResponse, AwaitWaitingRequest, AwaitWaitingResponse, CheckRequest,
    CheckResponse, DecideRequest, DecideResponse, PrepareRequest, PrepareResponse, StateRequest,
    StateResponse,
};

use transship_proto::{Fault, Reason};

use super::caller;
use crate::node::Node;
use crate::target;

/// The target's end, over mutual TLS.
#[derive(Debug)]
pub struct TargetService(pub Arc<Node>);

#[tonic::async_trait]
impl Target for TargetService {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        caller(&request)?;
        Ok(Response::new(target::check(&self.0, request.get_ref()).await?))
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let source = caller(&request)?;
        // In a task of its own: a caller that goes away must not leave half of it behind.
        let node = Arc::clone(&self.0);
        let preparing =
            self.0.tasks.spawn(async move { target::prepare(&node, source, request.into_inner()).await });
        let prepared = preparing.await.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        Ok(Response::new(prepared?))
    }

    async fn await_waiting(
        &self,
        request: Request<AwaitWaitingRequest>,
    ) -> Result<Response<AwaitWaitingResponse>, Status> {
        caller(&request)?;
        target::await_waiting(&self.0, &request.get_ref().migration).await?;
        Ok(Response::new(AwaitWaitingResponse {}))
    }

    async fn await_held(
        &self,
        request: Request<AwaitHeldRequest>,
    ) -> Result<Response<AwaitHeldResponse>, Status> {
        caller(&request)?;
        Ok(Response::new(target::await_held(&self.0, &request.get_ref().migration).await?))
    }

    // Whoever carries it: the source's signature is what counts.
    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<DecideResponse>, Status> {
        let carrier = caller(&request)?;
        let state = target::decide(&self.0, &carrier, &request.get_ref().record).await?;
        Ok(Response::new(DecideResponse { state: state.into() }))
    }

    async fn state(&self, request: Request<StateRequest>) -> Result<Response<StateResponse>, Status> {
        caller(&request)?;
        let (state, root) = target::state(&self.0, &request.get_ref().migration)?;
        Ok(Response::new(StateResponse { state: state.into(), root }))
    }
}

//! What a coordinator asks.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use transship_proto::v1::pods_server::Pods;
use transship_proto::v1::{
    BeginRequest, BeginResponse, CancelRequest, CancelResponse, DescribeRequest, DescribeResponse,
    ForgetRequest, ForgetResponse, MigrateEvent, PreflightRequest, PreflightResponse, WatchRequest,
};
use transship_proto::{Fault, Reason};

use super::caller;
use crate::node::Node;
use crate::plan::migration_id;
use crate::pods::{self, COORDINATOR};

/// Moves of Pods, over mutual TLS, for the coordinator alone.
#[derive(Debug)]
pub struct PodsService(pub Arc<Node>);

#[tonic::async_trait]
impl Pods for PodsService {
    async fn describe(
        &self,
        request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        coordinator(&request)?;
        Ok(Response::new(pods::describe(&self.0).await))
    }

    async fn preflight(
        &self,
        request: Request<PreflightRequest>,
    ) -> Result<Response<PreflightResponse>, Status> {
        coordinator(&request)?;
        Ok(Response::new(pods::preflight(&self.0, request.into_inner()).await))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<BeginResponse>, Status> {
        coordinator(&request)?;
        pods::begin(&self.0, request.into_inner()).await?;
        Ok(Response::new(BeginResponse {}))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<MigrateEvent, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        coordinator(&request)?;
        let migration = migration_id(&request.get_ref().migration)?;
        let events = pods::watch(&self.0, &migration)?;
        Ok(Response::new(events.map(Ok).boxed()))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        coordinator(&request)?;
        let migration = migration_id(&request.get_ref().migration)?;
        Ok(Response::new(CancelResponse { heard: pods::cancel(&self.0, &migration).await? }))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Result<Response<ForgetResponse>, Status> {
        coordinator(&request)?;
        let migration = migration_id(&request.get_ref().migration)?;
        pods::forget(&self.0, &migration).await?;
        Ok(Response::new(ForgetResponse {}))
    }
}

fn coordinator<T>(request: &Request<T>) -> Result<(), Fault> {
    let caller = caller(request)?;
    if caller.name == COORDINATOR {
        return Ok(());
    }
    let what = format!("{} may not move Pods: only who has a certificate for {COORDINATOR} may", caller.name);
    Err(Fault::new(Reason::Forbidden, what))
}

//! What a target's agent asks of the source's.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use transship_proto::v1::source_server::Source;
use transship_proto::v1::{FollowedRequest, FollowedResponse, RecordRequest, RecordResponse};
use transship_proto::{Fault, Reason};

use super::caller;
use crate::node::Node;
use crate::plan::{Plan, migration_id};

/// The source's end, over mutual TLS. A decision is no secret: whoever has a certificate may know it.
#[derive(Debug)]
pub struct SourceService(pub Arc<Node>);

#[tonic::async_trait]
impl Source for SourceService {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        caller(&request)?;
        let migration = migration_id(&request.get_ref().migration)?;
        let standing = self.0.state.standing(&migration);
        let standing = standing.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        let record = standing.map(|record| self.0.signer.sign(record)).transpose()?;
        Ok(Response::new(RecordResponse { record: record.map(|record| record.encode()).unwrap_or_default() }))
    }

    async fn followed(
        &self,
        request: Request<FollowedRequest>,
    ) -> Result<Response<FollowedResponse>, Status> {
        let target = caller(&request)?;
        let migration = migration_id(&request.get_ref().migration)?;
        match Plan::load(&self.0.state, &migration)? {
            Some(Plan::Departure(plan)) if plan.target_node == target.name => {
                self.0.departures.has_followed(migration);
                Ok(Response::new(FollowedResponse {}))
            }
            _ => {
                let what = format!("migration {migration} doesn't go from here to {}", target.name);
                Err(Fault::new(Reason::RecordNotTrusted, what).into())
            }
        }
    }
}

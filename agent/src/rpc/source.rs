//! What a target's agent asks of the source's.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use transship_decision::MigrationId;
use transship_proto::v1::source_server::Source;
use transship_proto::v1::{RecordRequest, RecordResponse};
use transship_proto::{Fault, Reason};

use super::caller;
use crate::node::Node;

/// The source's end, over mutual TLS. A decision is no secret: whoever has a certificate may know it.
#[derive(Debug)]
pub struct SourceService(pub Arc<Node>);

#[tonic::async_trait]
impl Source for SourceService {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        caller(&request)?;
        let asked = request.into_inner().migration;
        let migration: MigrationId =
            asked.parse().map_err(|error| Fault::new(Reason::InvalidArgument, format!("{error}")))?;
        let standing = self.0.state.standing(&migration);
        let standing = standing.map_err(|error| Fault::new(Reason::HostError, error.to_string()))?;
        let record = standing.map(|record| self.0.signer.sign(record)).transpose()?;
        Ok(Response::new(RecordResponse { record: record.map(|record| record.encode()).unwrap_or_default() }))
    }
}

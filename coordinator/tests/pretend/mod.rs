//! An agent that only pretends: it answers over mutual TLS, and every migration of its ends as it was told.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use transship_proto::v1::migrate_event::{Event, PhaseBegun, Prepared};
use transship_proto::v1::pods_server::{Pods, PodsServer};
use transship_proto::v1::{
    BeginRequest, BeginResponse, CancelRequest, CancelResponse, Capture, DescribeRequest, DescribeResponse,
    ForgetRequest, ForgetResponse, MigrateEvent, NodeFacts, Outcome, Phase, PreflightRequest,
    PreflightResponse, WatchRequest,
};

/// What it knows.
#[derive(Clone, Default)]
pub struct Pretend {
    outcome: Outcome,
    takes: Duration,
    begun: Arc<Mutex<HashMap<String, BeginRequest>>>,
}

impl Pretend {
    /// Every migration ends like that, so long after it was prepared.
    pub fn ending(outcome: Outcome, takes: Duration) -> Self {
        Self { outcome, takes, begun: Arc::default() }
    }

    /// What it was told to begin.
    pub fn begun(&self) -> Vec<BeginRequest> {
        self.begun.lock().unwrap().values().cloned().collect()
    }

    fn knows(&self, migration: &str) -> Result<(), Status> {
        let known = self.begun.lock().unwrap().contains_key(migration);
        known.then_some(()).ok_or_else(|| Status::not_found("no such migration here"))
    }
}

/// Serves with NODE.crt and NODE.key of `pki` until the runtime ends; gives its port.
pub async fn serve(pretend: Pretend, pki: &Path, node: &str, address: SocketAddr) -> u16 {
    let read = |file: String| std::fs::read(pki.join(file)).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(format!("{node}.crt")), read(format!("{node}.key"))))
        .client_ca_root(Certificate::from_pem(read("ca.crt".into())));
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().tls_config(tls).unwrap().add_service(PodsServer::new(pretend));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    port
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Pods for Pretend {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<MigrateEvent, Status>> + Send>>;

    async fn describe(&self, _: Request<DescribeRequest>) -> Answer<DescribeResponse> {
        let facts = NodeFacts { architecture: "x86_64".into(), cgroup_version: 2, ..NodeFacts::default() };
        let captures = vec![Capture::Direct.into()];
        Ok(Response::new(DescribeResponse { facts: Some(facts), captures, problems: Vec::new() }))
    }

    async fn preflight(&self, _: Request<PreflightRequest>) -> Answer<PreflightResponse> {
        Ok(Response::new(PreflightResponse {
            capture: Capture::Direct.into(),
            ..PreflightResponse::default()
        }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Answer<BeginResponse> {
        let asked = request.into_inner();
        self.begun.lock().unwrap().insert(asked.migration.clone(), asked);
        Ok(Response::new(BeginResponse {}))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        self.knows(&request.get_ref().migration)?;
        let (tell, told) = mpsc::channel(8);
        let (outcome, takes) = (self.outcome.clone(), self.takes);
        tokio::spawn(async move {
            let phase = |phase: Phase| Event::Phase(PhaseBegun { phase: phase.into(), at_us: 0 });
            for event in [Event::Prepared(Prepared {}), phase(Phase::Freeze), Event::Outcome(outcome)] {
                if matches!(event, Event::Outcome(_)) {
                    tokio::time::sleep(takes).await;
                }
                if tell.send(MigrateEvent { event: Some(event) }).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told).map(Ok))))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Answer<CancelResponse> {
        self.knows(&request.get_ref().migration)?;
        Ok(Response::new(CancelResponse { heard: true }))
    }

    async fn forget(&self, request: Request<ForgetRequest>) -> Answer<ForgetResponse> {
        self.knows(&request.get_ref().migration)?;
        self.begun.lock().unwrap().remove(&request.get_ref().migration);
        Ok(Response::new(ForgetResponse {}))
    }
}

//! A coordinator, played by the tests: it asks agents to move Pods, with the certificate that may.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Response, Status};
use transship_lab::{AGENT_PORT, Lab, NodeName, PROGRAMS_VARIABLE};
use transship_proto::v1::migrate_event::Event;
use transship_proto::v1::pods_client::PodsClient;
use transship_proto::v1::{
    BeginRequest, CancelRequest, ForgetRequest, Outcome, PreflightRequest, PreflightResponse, WatchRequest,
};
use transship_proto::{Fault, Reason};

use crate::kubelet::Pod;

/// Longer than anything takes that is waited for here.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name in the certificate of whoever may ask.
const NAME: &str = "transship-coordinator";

/// Whoever asks agents in the lab.
#[derive(Clone)]
pub struct Coordinator<'a> {
    lab: &'a Lab,
    authority: Certificate,
    identity: Identity,
}

/// A Pod's migration that was asked for.
pub struct Handover<'a> {
    coordinator: Coordinator<'a>,
    from: NodeName,
    request: BeginRequest,
}

impl<'a> Coordinator<'a> {
    /// One with a coordinator's certificate.
    pub fn of(lab: &'a Lab) -> Result<Self> {
        let folder = lab.identities();
        if !folder.join(format!("{NAME}.crt")).exists() {
            let programs = std::env::var_os(PROGRAMS_VARIABLE).context("find the programs")?;
            let mut issue = Command::new(Path::new(&programs).join("transship"));
            issue.args(["pki", "issue", "--name", NAME, "--address", "127.0.0.1", "--dir"]).arg(&folder);
            let issued = issue.output().context("issue a certificate")?;
            ensure!(
                issued.status.success(),
                "issue a certificate: {}",
                String::from_utf8_lossy(&issued.stderr)
            );
        }
        Self::with_certificate(lab, NAME)
    }

    /// Whoever has the certificate of that name.
    pub fn with_certificate(lab: &'a Lab, name: &str) -> Result<Self> {
        let folder = lab.identities();
        let pem = |file: String| fs::read(folder.join(&file)).with_context(|| format!("read {file}"));
        Ok(Self {
            lab,
            authority: Certificate::from_pem(pem("ca.crt".into())?),
            identity: Identity::from_pem(pem(format!("{name}.crt"))?, pem(format!("{name}.key"))?),
        })
    }

    /// Goes through every check for a move to the other node.
    pub fn preflight(&self, from: NodeName, pod: &Pod) -> Result<Result<PreflightResponse, Fault>> {
        let target = address(from.peer());
        let request = PreflightRequest { pod: Some(pod.identity()), target, ..PreflightRequest::default() };
        self.call(from, async |mut pods| pods.preflight(request).await)
    }

    /// Begins to move a Pod of that node to the other node, where it becomes `target`.
    pub fn begin(&self, from: NodeName, pod: &Pod, target: &Pod) -> Result<Handover<'a>> {
        let request = BeginRequest {
            migration: format!("m-{}", target.identity().uid),
            source: Some(pod.identity()),
            target_pod: Some(target.identity()),
            target: address(from.peer()),
            target_node: from.peer().to_string(),
            ..BeginRequest::default()
        };
        let handover = Handover { coordinator: self.clone(), from, request };
        handover.begin_again()??;
        Ok(handover)
    }

    /// Forgets a migration on one node.
    pub fn forget(&self, on: NodeName, migration: &str) -> Result<Result<(), Fault>> {
        let request = ForgetRequest { migration: migration.to_owned() };
        Ok(self.call(on, async |mut pods| pods.forget(request).await)?.map(drop))
    }

    /// One call to a node's agent, from outside of both nodes. What the agent itself answers is the inner result.
    fn call<T: Send>(
        &self,
        node: NodeName,
        call: impl AsyncFnOnce(PodsClient<Channel>) -> Result<Response<T>, Status> + Send,
    ) -> Result<Result<T, Fault>> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(self.authority.clone())
            .identity(self.identity.clone())
            .domain_name(node.as_str());
        let endpoint = Endpoint::from_shared(format!("https://{}", address(node)))?.tls_config(tls)?;
        let asked = self.lab.client().in_network(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let channel = endpoint.connect().await.context("connect to an agent")?;
                let answer = tokio::time::timeout(PATIENCE, call(PodsClient::new(channel))).await;
                anyhow::Ok(answer.context("wait for an agent's answer")?)
            })
        });
        Ok(asked??.map(Response::into_inner).map_err(Fault::from))
    }
}

impl Handover<'_> {
    /// Its name, on both nodes.
    pub fn id(&self) -> &str {
        &self.request.migration
    }

    /// Asks for the same once more.
    pub fn begin_again(&self) -> Result<Result<(), Fault>> {
        let request = self.request.clone();
        Ok(self.coordinator.call(self.from, async |mut pods| pods.begin(request).await)?.map(drop))
    }

    /// Waits until the target's Pod may be scheduled.
    pub fn prepared(&self) -> Result<()> {
        let events = self.events(&|event| matches!(event, Event::Prepared(_) | Event::Outcome(_)))??;
        match events.last() {
            Some(Event::Prepared(_)) => Ok(()),
            other => anyhow::bail!("not prepared but {other:?}"),
        }
    }

    /// Waits for its end.
    pub fn outcome(&self) -> Result<Outcome> {
        match self.events(&|event| matches!(event, Event::Outcome(_)))??.pop() {
            Some(Event::Outcome(outcome)) => Ok(outcome),
            other => anyhow::bail!("the events end with {other:?} and no outcome"),
        }
    }

    /// The agent knows nothing of it any more.
    pub fn is_forgotten(&self) -> Result<()> {
        let answer = self.events(&|_| true)?;
        let unknown = answer.as_ref().is_err_and(|fault| fault.reason == Reason::MigrationNotFound);
        ensure!(unknown, "it isn't forgotten: {answer:?}");
        Ok(())
    }

    /// Asks for its end; whether that came in time.
    pub fn cancel(&self) -> Result<bool> {
        let request = CancelRequest { migration: self.id().to_owned() };
        Ok(self.coordinator.call(self.from, async |mut pods| pods.cancel(request).await)??.heard)
    }

    /// Forgets it on both nodes, twice.
    pub fn forget(&self) -> Result<()> {
        for node in [self.from, self.from.peer()].repeat(2) {
            self.coordinator.forget(node, self.id())?.with_context(|| format!("forget it on {node}"))?;
        }
        self.is_forgotten()
    }

    /// What has happened and what happens, up to the first event of that kind.
    fn events(&self, last: &(dyn Fn(&Event) -> bool + Sync)) -> Result<Result<Vec<Event>, Fault>> {
        let request = WatchRequest { migration: self.id().to_owned() };
        self.coordinator.call(self.from, async |mut pods| {
            let mut stream = pods.watch(request).await?.into_inner();
            let mut seen = Vec::new();
            while let Some(event) = stream.message().await? {
                let Some(event) = event.event else { continue };
                let is_last = last(&event);
                seen.push(event);
                if is_last {
                    break;
                }
            }
            Ok(Response::new(seen))
        })
    }
}

fn address(node: NodeName) -> String {
    format!("{}:{AGENT_PORT}", node.address())
}

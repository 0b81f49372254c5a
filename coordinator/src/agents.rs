//! What the coordinator asks of agents, over mutual TLS.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt;
use transship_dial::dial_node;
use transship_proto::v1::pods_client::PodsClient;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{
    BeginRequest, CancelRequest, DescribeRequest, DescribeResponse, ForgetRequest, MigrateEvent,
    PreflightRequest, PreflightResponse, State, StateRequest, WatchRequest,
};
use transship_proto::{DOMAIN, Fault, Reason};
use transship_transfer::{Identity, IdentityPaths};

use crate::target::Refusal;

/// How long an answer may take that needs no work.
const ANSWER: Duration = Duration::from_secs(5);
/// How long one may take for which a node looks around.
const LOOK: Duration = Duration::from_secs(60);

/// How agents are reached.
#[derive(Debug, Clone)]
pub struct Agents {
    identity: IdentityPaths,
    port: u16,
}

/// Why a call to an agent gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Its own answer.
    Told(Refusal),
    /// Its own answer: it knows nothing of that.
    Unknown(Refusal),
    /// No answer; what was asked for may have been done.
    Unreachable(Refusal),
}

impl Failure {
    /// The reason behind it, whatever it is.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Told(why) | Self::Unknown(why) | Self::Unreachable(why) => why,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Unreachable(fault.into())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let ours = status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN);
        let code = status.code();
        let why = Refusal::from(Fault::from(status));
        match code {
            Code::NotFound => Self::Unknown(why),
            Code::Unimplemented => Self::Told(why),
            _ if ours => Self::Told(why),
            _ => Self::Unreachable(why),
        }
    }
}

impl Agents {
    /// As the coordinator, with the identity in those files; agents listen at `port` of their nodes.
    pub fn new(identity: IdentityPaths, port: u16) -> Self {
        Self { identity, port }
    }

    /// HOST:PORT of a node's agent.
    ///
    /// # Errors
    /// When the node has no internal address.
    pub fn address(&self, node: &Node) -> Result<String, Refusal> {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.into_iter().find(|address| address.type_ == "InternalIP");
        let ip = internal.map(|address| address.address.as_str()).ok_or_else(|| {
            let what = format!("the node {} has no InternalIP, so its agent can't be found", node.name_any());
            Refusal::new("AgentUnreachable", what)
        })?;
        Ok(if ip.contains(':') { format!("[{ip}]:{}", self.port) } else { format!("{ip}:{}", self.port) })
    }

    /// What a node can do.
    pub async fn describe(&self, node: &Node) -> Result<DescribeResponse, Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        within(ANSWER, pods.describe(DescribeRequest {})).await
    }

    /// Every check of both nodes.
    pub async fn preflight(
        &self,
        node: &Node,
        asked: PreflightRequest,
    ) -> Result<PreflightResponse, Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        within(LOOK, pods.preflight(asked)).await
    }

    /// Begins, or joins what has begun.
    pub async fn begin(&self, node: &Node, asked: BeginRequest) -> Result<(), Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        within(LOOK, pods.begin(asked)).await.map(|_| ())
    }

    /// A migration's events, past ones and those to come.
    pub async fn watch(&self, node: &Node, migration: &str) -> Result<Streaming<MigrateEvent>, Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        within(ANSWER, pods.watch(WatchRequest { migration: migration.into() })).await
    }

    /// Asks for the end.
    pub async fn cancel(&self, node: &Node, migration: &str) -> Result<(), Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        within(ANSWER, pods.cancel(CancelRequest { migration: migration.into() })).await.map(|_| ())
    }

    /// Lets go of what is kept. One that knows nothing of it has nothing to let go.
    pub async fn forget(&self, node: &Node, migration: &str) -> Result<(), Failure> {
        let mut pods = PodsClient::new(self.dial(node).await?);
        match within(LOOK, pods.forget(ForgetRequest { migration: migration.into() })).await {
            Ok(_) | Err(Failure::Unknown(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// How far a migration is at its target.
    pub async fn state(&self, node: &Node, migration: &str) -> Result<State, Failure> {
        let mut target = TargetClient::new(self.dial(node).await?);
        let state = within(ANSWER, target.state(StateRequest { migration: migration.into() })).await?;
        Ok(state.state())
    }

    async fn dial(&self, node: &Node) -> Result<Channel, Failure> {
        let address = self.address(node).map_err(Failure::Unreachable)?;
        // Read anew each time: certificates are replaced while the coordinator runs.
        let identity = Identity::load(&self.identity).map_err(|error| {
            let what = format!("the coordinator's own identity can't be used: {error}");
            Failure::Unreachable(Fault::new(Reason::WrongCertificate, what).into())
        })?;
        Ok(dial_node(&identity, &address, &node.name_any()).await?.channel)
    }
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match timeout(limit, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => {
            let what = format!("the agent took longer than {} s to answer", limit.as_secs());
            Err(Failure::Unreachable(Refusal::new("AgentUnreachable", what)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agents() -> Agents {
        let file = std::path::PathBuf::from("none");
        Agents::new(IdentityPaths { ca: file.clone(), certificate: file.clone(), key: file }, 7443)
    }

    fn node(addresses: serde_json::Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"addresses": addresses}}))
            .unwrap()
    }

    #[test]
    fn an_agent_is_at_its_node_s_internal_address() {
        let address = |ip: &str| {
            agents().address(&node(json!([
                {"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": ip}])))
        };
        assert_eq!(address("10.0.0.1").unwrap(), "10.0.0.1:7443");
        assert_eq!(address("fd00::1").unwrap(), "[fd00::1]:7443");
        assert_eq!(agents().address(&node(json!([]))).unwrap_err().reason, "AgentUnreachable");
    }

    #[test]
    fn an_answer_is_told_from_a_silence() {
        let told = Failure::from(Status::from(Fault::new(Reason::CpuMismatch, "")));
        assert_eq!(told, Failure::Told(Refusal::new("CpuMismatch", "")));
        assert!(matches!(Failure::from(Status::not_found("")), Failure::Unknown(_)));
        assert!(matches!(Failure::from(Status::unavailable("")), Failure::Unreachable(_)));
        assert!(matches!(Failure::from(Status::unimplemented("")), Failure::Told(_)));
    }
}

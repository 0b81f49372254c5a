//! What a kubelet would do: Pods and containers through a node's Container Runtime Interface.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use transship_proto::cri::runtime_service_client::RuntimeServiceClient;
use transship_proto::cri::{
    ContainerConfig, CreateContainerRequest, ListContainersRequest, ListPodSandboxRequest, PodSandboxConfig,
    PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest,
};

use crate::containerd::SOCKET;
use crate::error::{LabError, Result};
use crate::node::Node;

/// A connection to a node's containerd. Blocking: not to be used inside of an async runtime.
#[derive(Debug)]
pub struct Cri {
    /// The one thread that drives the connection is the caller's, while it waits.
    runtime: Runtime,
    client: RuntimeServiceClient<Channel>,
}

/// A container and the Pod sandbox that it is alone in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// containerd's ID of the container.
    pub id: String,
    /// containerd's ID of the sandbox.
    pub pod_id: String,
    /// The Pod's IP address.
    pub address: String,
}

impl Cri {
    /// Connects to the containerd of a running node.
    pub fn connect(node: &Node) -> Result<Self> {
        let path = node.path(SOCKET)?;
        let io_error = |source| LabError::File {
            what: "connect to",
            path: node.path(SOCKET).unwrap_or_default(),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io_error)?;
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The address is never looked up: the connector knows the socket.
        let endpoint = Endpoint::from_static("http://containerd").timeout(Duration::from_secs(120));
        let channel = runtime.block_on(endpoint.connect_with_connector(connector));
        let channel = channel.map_err(|error| io_error(std::io::Error::other(error)))?;
        Ok(Cri { runtime, client: RuntimeServiceClient::new(channel) })
    }

    /// Any call of the CRI: `cri.call("StopContainer", async |client| client.stop_container(request).await)`.
    pub fn call<T>(
        &self,
        name: &str,
        call: impl AsyncFnOnce(RuntimeServiceClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T> {
        let answer = self.runtime.block_on(call(self.client.clone()));
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| LabError::Cri { call: name.to_owned(), status: Box::new(status) })
    }

    /// Makes a Pod sandbox and one container in it, and starts it. What was made is removed again if a step fails.
    pub fn run(&self, sandbox: PodSandboxConfig, container: ContainerConfig) -> Result<Container> {
        let request = RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
        let pod_id = self
            .call("RunPodSandbox", async |mut client| client.run_pod_sandbox(request).await)?
            .pod_sandbox_id;
        self.run_in(&pod_id, sandbox, container).inspect_err(|_| {
            // The first error is the one worth telling.
            self.remove_pod(&pod_id).ok();
        })
    }

    /// Makes and starts a container in a sandbox that is there.
    pub fn run_in(
        &self,
        pod_id: &str,
        sandbox: PodSandboxConfig,
        container: ContainerConfig,
    ) -> Result<Container> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(container),
            sandbox_config: Some(sandbox),
        };
        let id = self
            .call("CreateContainer", async |mut client| client.create_container(request).await)?
            .container_id;
        let request = StartContainerRequest { container_id: id.clone() };
        self.call("StartContainer", async |mut client| client.start_container(request).await)?;
        Ok(Container { id, pod_id: pod_id.to_owned(), address: self.address(pod_id)? })
    }

    /// The IP address of a Pod; empty when it has none.
    pub fn address(&self, pod_id: &str) -> Result<String> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: false };
        let answer =
            self.call("PodSandboxStatus", async |mut client| client.pod_sandbox_status(request).await)?;
        Ok(answer.status.and_then(|status| status.network).map(|network| network.ip).unwrap_or_default())
    }

    /// All containers, running or not.
    pub fn containers(&self) -> Result<Vec<transship_proto::cri::Container>> {
        let request = ListContainersRequest::default();
        Ok(self.call("ListContainers", async |mut client| client.list_containers(request).await)?.containers)
    }

    /// All Pod sandboxes, ready or not.
    pub fn pods(&self) -> Result<Vec<transship_proto::cri::PodSandbox>> {
        let request = ListPodSandboxRequest::default();
        Ok(self.call("ListPodSandbox", async |mut client| client.list_pod_sandbox(request).await)?.items)
    }

    /// Stops and removes a Pod with all its containers. One that is gone already is fine.
    pub fn remove_pod(&self, pod_id: &str) -> Result<()> {
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_id.to_owned() };
        self.call("StopPodSandbox", async |mut client| client.stop_pod_sandbox(request).await)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod_id.to_owned() };
        self.call("RemovePodSandbox", async |mut client| client.remove_pod_sandbox(request).await).map(drop)
    }
}

//! The runtime's CRI, over its unix socket.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use transship_proto::containerd::tasks_client::TasksClient;
use transship_proto::containerd::{PauseTaskRequest, ResumeTaskRequest};
use transship_proto::cri::image_service_client::ImageServiceClient;
use transship_proto::cri::runtime_service_client::RuntimeServiceClient;
use transship_proto::cri::{
    self, Container, ContainerConfig, ContainerFilter, ContainerState, ContainerStatusResponse, Image,
    ImageSpec, PodSandboxConfig, PodSandboxStatusResponse,
};
use transship_proto::{Fault, Reason};

use super::inspect::CRI_NAMESPACE;

/// A client of the node's CRI. Cheap to clone; reconnects by itself.
#[derive(Debug, Clone)]
pub struct Cri {
    socket: PathBuf,
    runtime: RuntimeServiceClient<Channel>,
    tasks: TasksClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Cri {
    /// A client of the CRI at that unix socket. Connects at the first call.
    pub fn new(socket: &Path) -> Result<Self, Fault> {
        let path = socket.to_path_buf();
        // The address is never used: the connector always takes the socket.
        let channel = Endpoint::from_static("http://cri")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }));
        let cap = 64 << 20;
        Ok(Self {
            socket: socket.to_path_buf(),
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(cap),
            tasks: TasksClient::new(channel.clone()),
            images: ImageServiceClient::new(channel).max_decoding_message_size(cap),
        })
    }

    /// The runtime's name and version, such as `containerd 2.1.9`.
    pub async fn version(&self) -> Result<String, Fault> {
        let answer = self.runtime.clone().version(cri::VersionRequest::default()).await;
        let version = answer.map_err(|status| self.fault("asking for its version", status))?.into_inner();
        Ok(format!("{} {}", version.runtime_name, version.runtime_version))
    }

    /// The configuration that the runtime tells of itself.
    pub async fn config(&self) -> Result<serde_json::Value, Fault> {
        let answer = self.runtime.clone().status(cri::StatusRequest { verbose: true }).await;
        let info =
            answer.map_err(|status| self.fault("asking for its configuration", status))?.into_inner().info;
        let text = info.get("config").map_or("null", String::as_str);
        serde_json::from_str(text).map_err(|error| {
            Fault::new(
                Reason::RuntimeError,
                format!("the runtime's own configuration can't be read: {error}"),
            )
        })
    }

    /// All containers in that state, of that sandbox if one is named.
    pub async fn containers(&self, filter: ContainerFilter) -> Result<Vec<Container>, Fault> {
        let request = cri::ListContainersRequest { filter: Some(filter) };
        let answer = self.runtime.clone().list_containers(request).await;
        Ok(answer.map_err(|status| self.fault("listing containers", status))?.into_inner().containers)
    }

    /// A container's status with everything the runtime tells of it.
    pub async fn container(&self, id: &str) -> Result<ContainerStatusResponse, Fault> {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: true };
        let answer = self.runtime.clone().container_status(request).await;
        Ok(answer.map_err(|status| self.fault(&format!("asking for container {id}"), status))?.into_inner())
    }

    /// A container's state; `None` if the runtime doesn't know it.
    pub async fn container_state(&self, id: &str) -> Result<Option<ContainerState>, Fault> {
        let request = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        match self.runtime.clone().container_status(request).await {
            Ok(answer) => Ok(answer.into_inner().status.map(|status| status.state())),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(self.fault(&format!("asking for container {id}"), status)),
        }
    }

    /// A sandbox's status with everything the runtime tells of it.
    pub async fn sandbox(&self, id: &str) -> Result<PodSandboxStatusResponse, Fault> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: true };
        let answer = self.runtime.clone().pod_sandbox_status(request).await;
        Ok(answer.map_err(|status| self.fault(&format!("asking for sandbox {id}"), status))?.into_inner())
    }

    /// The names of all Pods, by the IDs of their sandboxes.
    pub async fn pod_names(&self) -> Result<HashMap<String, String>, Fault> {
        let name = |sandbox: cri::PodSandbox| (sandbox.id, sandbox.metadata.unwrap_or_default().name);
        Ok(self.sandboxes().await?.into_iter().map(name).collect())
    }

    async fn sandboxes(&self) -> Result<Vec<cri::PodSandbox>, Fault> {
        let answer = self.runtime.clone().list_pod_sandbox(cri::ListPodSandboxRequest::default()).await;
        Ok(answer.map_err(|status| self.fault("listing sandboxes", status))?.into_inner().items)
    }

    /// The IDs of the sandboxes of a Pod.
    pub async fn sandboxes_of(&self, pod_uid: &str) -> Result<Vec<String>, Fault> {
        Ok(self.pod(pod_uid).await?.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// The sandboxes of a Pod; a kubelet lets ended ones lie for a while.
    pub async fn pod(&self, pod_uid: &str) -> Result<Vec<cri::PodSandbox>, Fault> {
        let mut items = self.sandboxes().await?;
        items.retain(|sandbox| sandbox.metadata.as_ref().is_some_and(|pod| pod.uid == pod_uid));
        Ok(items)
    }

    /// The image by that name, digest or ID, if the node holds it.
    pub async fn image(&self, name: &str) -> Result<Option<Image>, Fault> {
        // containerd takes nothing for a prefix of everything.
        if name.is_empty() {
            return Ok(None);
        }
        let image = Some(ImageSpec { image: name.into(), ..ImageSpec::default() });
        let answer =
            self.images.clone().image_status(cri::ImageStatusRequest { image, verbose: false }).await;
        Ok(answer
            .map_err(|status| self.fault(&format!("asking for image {name}"), status))?
            .into_inner()
            .image)
    }

    /// Pulls an image by name; gives its reference on this node.
    pub async fn pull(&self, name: &str, sandbox: &PodSandboxConfig) -> Result<String, Fault> {
        let image = Some(ImageSpec { image: name.into(), ..ImageSpec::default() });
        let request = cri::PullImageRequest { image, sandbox_config: Some(sandbox.clone()) };
        let answer = self.images.clone().pull_image(request).await;
        Ok(answer
            .map_err(|status| self.fault(&format!("pulling image {name}"), status))?
            .into_inner()
            .image_ref)
    }

    /// Makes a sandbox and gives its ID.
    pub async fn run_sandbox(&self, config: &PodSandboxConfig, handler: &str) -> Result<String, Fault> {
        let request =
            cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
        let answer = self.runtime.clone().run_pod_sandbox(request).await;
        Ok(answer.map_err(|status| self.fault("making the sandbox", status))?.into_inner().pod_sandbox_id)
    }

    /// Makes a container in a sandbox and gives its ID.
    pub async fn create_container(
        &self,
        sandbox_id: &str,
        sandbox: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String, Fault> {
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.into(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox.clone()),
        };
        let answer = self.runtime.clone().create_container(request).await;
        Ok(answer.map_err(|status| self.fault("creating the container", status))?.into_inner().container_id)
    }

    /// Starts a container; of one that is expected, this returns when it is restored and held.
    pub async fn start_container(&self, id: &str) -> Result<(), Fault> {
        let answer = self
            .runtime
            .clone()
            .start_container(cri::StartContainerRequest { container_id: id.into() })
            .await;
        answer.map(drop).map_err(|status| self.fault(&format!("starting container {id}"), status))
    }

    /// Pauses a container by the runtime itself, which then knows of it. containerd only: CRI has no such call.
    pub async fn pause(&self, id: &str) -> Result<(), Fault> {
        let request = in_namespace(PauseTaskRequest { container_id: id.into() });
        let answer = self.tasks.clone().pause(request).await;
        answer.map(drop).map_err(|status| self.fault(&format!("pausing container {id}"), status))
    }

    /// Undoes [`Cri::pause`].
    pub async fn resume(&self, id: &str) -> Result<(), Fault> {
        let request = in_namespace(ResumeTaskRequest { container_id: id.into() });
        let answer = self.tasks.clone().resume(request).await;
        answer.map(drop).map_err(|status| self.fault(&format!("resuming container {id}"), status))
    }

    /// Writes the runtime's own checkpoint archive of a container to a file. The container's freezer state stays.
    pub async fn checkpoint(&self, id: &str, location: &Path, timeout: Duration) -> Result<(), Fault> {
        let request = cri::CheckpointContainerRequest {
            container_id: id.into(),
            location: location.display().to_string(),
            timeout: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        };
        let answer = self.runtime.clone().checkpoint_container(request).await;
        answer.map(drop).map_err(|status| self.fault(&format!("checkpointing container {id}"), status))
    }

    /// Kills and removes a sandbox with all its containers. Fine if it isn't there.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Fault> {
        let filter = ContainerFilter { pod_sandbox_id: id.into(), ..ContainerFilter::default() };
        for container in self.containers(filter).await? {
            self.remove_container(&container.id).await?;
        }
        let stop = cri::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(self.runtime.clone().stop_pod_sandbox(stop).await)
            .map_err(|status| self.fault(&format!("stopping sandbox {id}"), status))?;
        let remove = cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(self.runtime.clone().remove_pod_sandbox(remove).await)
            .map_err(|status| self.fault(&format!("removing sandbox {id}"), status))
    }

    /// Kills and removes the containers of that name in a sandbox. Fine if there are none.
    pub async fn remove_container_named(&self, sandbox_id: &str, name: &str) -> Result<(), Fault> {
        let filter = ContainerFilter { pod_sandbox_id: sandbox_id.into(), ..ContainerFilter::default() };
        for container in self.containers(filter).await? {
            if container.metadata.as_ref().is_some_and(|data| data.name == name) {
                self.remove_container(&container.id).await?;
            }
        }
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Fault> {
        let stop = cri::StopContainerRequest { container_id: id.into(), timeout: 0 };
        gone_is_fine(self.runtime.clone().stop_container(stop).await)
            .map_err(|status| self.fault(&format!("stopping container {id}"), status))?;
        let remove = cri::RemoveContainerRequest { container_id: id.into() };
        gone_is_fine(self.runtime.clone().remove_container(remove).await)
            .map_err(|status| self.fault(&format!("removing container {id}"), status))
    }

    fn fault(&self, doing: &str, status: tonic::Status) -> Fault {
        let what =
            format!("{doing} failed at the runtime behind {}: {}", self.socket.display(), status.message());
        Fault::new(Reason::RuntimeError, what)
    }
}

/// A request to containerd itself, for the namespace that its CRI uses.
fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(CRI_NAMESPACE));
    request
}

fn gone_is_fine<T>(answer: Result<T, tonic::Status>) -> Result<(), tonic::Status> {
    match answer {
        Err(status) if status.code() != tonic::Code::NotFound => Err(status),
        _ => Ok(()),
    }
}

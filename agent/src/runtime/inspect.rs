//! A running container, as its runtime tells of it.

use std::path::{Path, PathBuf};

use procfs::process::Process;
use serde::Deserialize;
use serde_json::Value;
use transship_proto::cri::{
    ContainerConfig, ContainerFilter, ContainerState, ContainerStateValue, Image, PodSandboxConfig,
    PodSandboxStatusResponse,
};
use transship_proto::v1::{Workload, WorkloadContainer};
use transship_proto::{Fault, Reason};

use super::{Bundle, Cri, OciRuntime};

/// containerd's default state folder of the OCI runtime; the namespace's name is appended.
const DEFAULT_OCI_ROOT: &str = "/run/containerd/runc";
/// The containerd namespace that its CRI uses.
pub(super) const CRI_NAMESPACE: &str = "k8s.io";

/// Everything that a migration needs to know of a Pod whose containers run.
#[derive(Debug, Clone)]
pub struct InspectedPod {
    /// What people call it: the Pod's name.
    pub name: String,
    /// Its UID, by which fences are keyed.
    pub uid: String,
    /// Its sandbox's ID.
    pub sandbox_id: String,
    /// The sandbox's first process, as a freshly started container of this node.
    pub sandbox_pid: u32,
    /// The folder behind the sandbox's `/dev/shm`, if it has one.
    pub shm: Option<PathBuf>,
    /// Its running containers, at least one, in the order in which they were created.
    pub containers: Vec<Inspected>,
    /// What an equal one is made from; its containers are those of above, in the same order.
    pub workload: Workload,
}

/// Everything that a migration needs to know of a running container.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The container's full ID.
    pub container_id: String,
    /// The container's name within its Pod.
    pub name: String,
    /// The first process of the container.
    pub pid: u32,
    /// The OCI runtime's bundle.
    pub bundle: PathBuf,
    /// The OCI runtime that runs it, as the container runtime calls it.
    pub oci: OciRuntime,
    /// The writable layer of its root file system.
    pub upper: PathBuf,
}

/// Finds a Pod by its name, or by a container's ID, unambiguous prefix of its ID or name, and learns all about its
/// running containers.
pub async fn inspect(cri: &Cri, wanted: &str) -> Result<InspectedPod, Fault> {
    let sandbox_id = find(cri, wanted).await?;
    let mut running = cri.containers(running_in(&sandbox_id)).await?;
    running.sort_by_key(|container| (container.created_at, container.id.clone()));
    let sandbox = Sandbox::read(cri, &sandbox_id).await?;
    let (mut containers, mut equal_ones) = (Vec::new(), Vec::new());
    for container in running {
        let (inspected, equal) = inspect_container(cri, &container.id).await?;
        if containers.iter().any(|other: &Inspected| other.name == inspected.name) {
            let what = format!(
                "the sandbox of {wanted} has two running containers of the name {}; end one of them",
                inspected.name
            );
            return Err(Fault::new(Reason::ContainerAmbiguous, what));
        }
        containers.push(inspected);
        equal_ones.push(equal);
    }
    let Some(first) = containers.first() else { return Err(not_running(wanted)) };
    let metadata = sandbox.config.metadata.clone().unwrap_or_default();
    Ok(InspectedPod {
        name: metadata.name,
        uid: metadata.uid,
        sandbox_pid: sandbox.pid,
        // Of the sandbox itself: a container may have something else mounted there.
        shm: Bundle::read(&first.bundle.with_file_name(&sandbox_id))?.bound("/dev/shm"),
        containers,
        workload: Workload {
            sandbox: Some(sandbox.config),
            runtime_handler: sandbox.runtime_handler,
            containers: equal_ones,
        },
        sandbox_id,
    })
}

async fn inspect_container(cri: &Cri, id: &str) -> Result<(Inspected, WorkloadContainer), Fault> {
    let answer = cri.container(id).await?;
    let status = answer.status.unwrap_or_default();
    if status.state() != ContainerState::ContainerRunning {
        return Err(not_running(id));
    }
    let info: Info<ContainerConfig> = parse(&answer.info, &format!("container {id}"))?;
    let config = info.config.clone().ok_or_else(|| missing(id, "its configuration"))?;
    let oci = info.oci_runtime();
    let state = oci.state(id).await?;
    let image = image(cri, &status.image_ref, id).await?;
    let image_names = image_names(&image, &config);
    let inspected = Inspected {
        container_id: id.to_owned(),
        name: config.metadata.clone().unwrap_or_default().name,
        pid: info.pid,
        bundle: state.bundle,
        oci,
        upper: upper_folder(info.pid, id)?,
    };
    Ok((inspected, WorkloadContainer { config: Some(config), image_id: image.id, image_names }))
}

fn not_running(wanted: &str) -> Fault {
    let what = format!("container {wanted} is not running; only a running container can be moved");
    Fault::new(Reason::ContainerNotRunning, what)
}

/// The ID of the one sandbox that is meant, in which what is meant runs.
async fn find(cri: &Cri, wanted: &str) -> Result<String, Fault> {
    if wanted.is_empty() {
        return Err(Fault::new(
            Reason::InvalidArgument,
            "no container was named; give its ID, its name or its Pod's",
        ));
    }
    let pods = cri.pod_names().await?;
    let mut matches = cri.containers(ContainerFilter::default()).await?;
    matches.retain(|container| {
        let named = container.metadata.as_ref().is_some_and(|data| data.name == wanted);
        let pod = pods.get(&container.pod_sandbox_id);
        named || container.id.starts_with(wanted) || pod.is_some_and(|pod| pod == wanted)
    });
    if matches.is_empty() {
        let what =
            format!("no container here has the ID or name {wanted}; the runtime's own list shows what runs");
        return Err(Fault::new(Reason::ContainerNotFound, what));
    }
    // What has ended keeps its name; what runs is what is meant.
    matches.retain(|container| container.state() == ContainerState::ContainerRunning);
    let first = matches.first().ok_or_else(|| not_running(wanted))?;
    if matches.iter().all(|other| other.pod_sandbox_id == first.pod_sandbox_id) {
        return Ok(first.pod_sandbox_id.clone());
    }
    let ids: Vec<_> =
        matches.iter().map(|container| container.id.get(..12).unwrap_or(&container.id)).collect();
    let what = format!("{wanted} fits {} containers ({}); give more of the ID", ids.len(), ids.join(", "));
    Err(Fault::new(Reason::ContainerAmbiguous, what))
}

/// The part of containerd's verbose status that is used. Source: containerd 2.1, `internal/cri/types`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info<C> {
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    runtime_options: Value,
    config: Option<C>,
}

impl<C> Info<C> {
    fn oci_runtime(&self) -> OciRuntime {
        let option = |name: &str| {
            self.runtime_options.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
        };
        OciRuntime {
            program: option("binary_name").unwrap_or("runc").into(),
            root: Path::new(option("root").unwrap_or(DEFAULT_OCI_ROOT)).join(CRI_NAMESPACE),
        }
    }
}

struct Sandbox {
    config: PodSandboxConfig,
    runtime_handler: String,
    pid: u32,
}

impl Sandbox {
    async fn read(cri: &Cri, id: &str) -> Result<Self, Fault> {
        let PodSandboxStatusResponse { status, info, .. } = cri.sandbox(id).await?;
        let info: Info<PodSandboxConfig> = parse(&info, &format!("sandbox {id}"))?;
        Ok(Self {
            config: info.config.ok_or_else(|| missing(id, "its configuration"))?,
            runtime_handler: status.unwrap_or_default().runtime_handler,
            pid: info.pid,
        })
    }
}

fn parse<C: for<'a> Deserialize<'a>>(
    info: &std::collections::HashMap<String, String>,
    of: &str,
) -> Result<Info<C>, Fault> {
    let text = info.get("info").ok_or_else(|| missing(of, "verbose information"))?;
    serde_json::from_str(text).map_err(|error| {
        let what = format!(
            "the runtime describes {of} in a way that this version doesn't know, so that a setting could be lost: {error}"
        );
        Fault::new(Reason::VersionMismatch, what)
    })
}

fn missing(of: &str, what: &str) -> Fault {
    Fault::new(
        Reason::RuntimeError,
        format!("the runtime says of {of} nothing of {what}; is it containerd 2 or later?"),
    )
}

/// The image that the container was made from. Its ID is the digest of its configuration, equal on every node.
async fn image(cri: &Cri, image_ref: &str, container: &str) -> Result<Image, Fault> {
    let gone = || {
        let what = format!(
            "the image {image_ref} of container {container} isn't on this node any more; pull it again"
        );
        Fault::new(Reason::ImageUnavailable, what)
    };
    cri.image(image_ref).await?.filter(|image| !image.id.is_empty()).ok_or_else(gone)
}

/// Names for the image, best first: what the container was made from, then digests, then tags.
fn image_names(image: &Image, config: &ContainerConfig) -> Vec<String> {
    let asked =
        config.image.iter().flat_map(|image| [image.user_specified_image.clone(), image.image.clone()]);
    let mut names: Vec<String> = Vec::new();
    for name in asked.chain(image.repo_digests.clone()).chain(image.repo_tags.clone()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The `upperdir` of the overlay that is the container's root.
fn upper_folder(pid: u32, container: &str) -> Result<PathBuf, Fault> {
    let unreadable = |error: procfs::ProcError| {
        Fault::new(
            Reason::ContainerNotRunning,
            format!("the mounts of container {container} can't be read: {error}"),
        )
    };
    let mounts =
        Process::new(pid.cast_signed()).and_then(|process| process.mountinfo()).map_err(unreadable)?;
    let root = mounts.into_iter().rfind(|mount| mount.mount_point == Path::new("/"));
    let upper = root.and_then(|mount| mount.super_options.get("upperdir").cloned().flatten());
    upper.map(PathBuf::from).ok_or_else(|| {
        let what = format!("the root of container {container} isn't an overlay with a writable layer; only the overlayfs snapshotter is supported");
        Fault::new(Reason::NoCapturePath, what)
    })
}

/// A filter for the running containers of one sandbox.
fn running_in(sandbox_id: &str) -> ContainerFilter {
    ContainerFilter {
        pod_sandbox_id: sandbox_id.into(),
        state: Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() }),
        ..ContainerFilter::default()
    }
}

/// The first process of a container; `None` if it has none.
pub async fn container_pid(cri: &Cri, id: &str) -> Result<Option<u32>, Fault> {
    let info: Info<ContainerConfig> = parse(&cri.container(id).await?.info, &format!("container {id}"))?;
    Ok(Some(info.pid).filter(|pid| *pid != 0))
}

/// The OCI runtime of a container, running or not.
pub async fn oci_runtime_of(cri: &Cri, id: &str) -> Result<OciRuntime, Fault> {
    let info: Info<ContainerConfig> = parse(&cri.container(id).await?.info, &format!("container {id}"))?;
    Ok(info.oci_runtime())
}

/// The OCI bundle of a container that runs.
pub async fn bundle_of(cri: &Cri, id: &str) -> Result<PathBuf, Fault> {
    Ok(oci_runtime_of(cri, id).await?.state(id).await?.bundle)
}

/// The first process of a sandbox.
pub async fn sandbox_pid(cri: &Cri, id: &str) -> Result<u32, Fault> {
    Ok(Sandbox::read(cri, id).await?.pid)
}

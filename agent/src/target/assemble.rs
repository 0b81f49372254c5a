//! The verified tree becomes what a runtime can restore: checked against the bundle, the root file system changed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transship_checkpoint::rootfs;
use transship_decision::wire::{Request, Restore};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use super::receive::TREE;
use crate::grants::Judge;
use crate::host::{blocking, failed};
use crate::node::chain;
use crate::plan::Owner;
use crate::pods::volumes;
use crate::runtime::{Bundle, CRIU_CONFIG_VARIABLE, OciRuntime};

/// What CRIU is told: the tasks stay stopped, connections come back closed.
const CRIU_CONFIG: &str = "leave-stopped\ntcp-close\n";
/// The folder in the tree of what belongs to all containers.
const OF_POD: &str = "pod";
/// The mark, in the workspace, that this is in its place.
const PLACED: &str = "placed";
/// How many entries a layer may have.
const LAYER_ENTRIES: u64 = 4_000_000;

/// Makes everything ready for the restore of one container, and says how it is to be done.
pub async fn assemble(arrival: &Arc<AtWork>, request: &Request) -> Result<(Restore, Judge), Fault> {
    let pid = match arrival.sandbox_pid() {
        Some(pid) => pid,
        // Not of containerd, which answers for a sandbox only after seconds while a `create` in it is under way.
        None => sandbox_pid(arrival, request).await?,
    };
    let number = arrival.plan.container(&request.container)?.0;
    let tree = arrival.workspace.path().join(TREE).join(number.to_string());
    let work = arrival.workspace.folder(work_folder(number))?;
    let cgroups = arrival.restore_cgroup(number)?.paths().to_vec();
    let caps = rootfs::Caps { entries: LAYER_ENTRIES, bytes: arrival.plan.capacity };
    let (request, arrival) = (request.clone(), Arc::clone(arrival));
    blocking(move || {
        let judge = Judge::of(&request.bundle, &request.sandbox_id, pid)?;
        let images = tree.join("images");
        judge.images(&images)?;
        let mut bundle = Bundle::read(&request.bundle)?;
        if let Some(layer) = layer(&tree, &["rootfs.tar", "rootfs-diff.tar"])? {
            put(layer, &bundle.root(), &caps, "the root file system's changes")?;
        }
        place_pod(&arrival, &request, &caps)?;
        let config = work.join("criu.conf");
        std::fs::write(&config, CRIU_CONFIG).map_err(failed("writing CRIU's configuration"))?;
        bundle.drop_criu_config()?;
        let env = vec![(CRIU_CONFIG_VARIABLE.into(), config.display().to_string())];
        let restore = Restore { images, work, flags: vec!["--file-locks".into()], env, cgroups };
        Ok::<_, Fault>((restore, judge))
    })
    .await
}

/// The first process of the sandbox, by the word of the OCI runtime.
async fn sandbox_pid(arrival: &AtWork, request: &Request) -> Result<u32, Fault> {
    let unknown = || {
        let what = format!("the first process of sandbox {} isn't known", request.sandbox_id);
        Fault::new(Reason::RestoreFailed, what)
    };
    let root = request.root.clone().ok_or_else(unknown)?;
    let runtime = OciRuntime { program: arrival.plan.oci_program.clone(), root };
    let state = runtime.state(&request.sandbox_id).await?;
    u32::try_from(state.pid).ok().filter(|pid| *pid != 0).ok_or_else(unknown)
}

/// The folder in the workspace where CRIU works on the restore of the container of that number.
pub fn work_folder(number: usize) -> PathBuf {
    Path::new("restore").join(number.to_string())
}

/// Puts what belongs to all containers into its place, before the first of them is restored and never again: from then
/// on it is in use, also where that container is held since an agent before this one.
fn place_pod(arrival: &AtWork, request: &Request, caps: &rootfs::Caps) -> Result<(), Fault> {
    let _alone = arrival.placing();
    let mark = arrival.workspace.path().join(PLACED);
    if mark.exists() {
        return Ok(());
    }
    let tree = arrival.workspace.path().join(TREE).join(OF_POD);
    if let Some(layer) = layer(&tree, &["shm.tar"])? {
        let nowhere = || {
            Fault::new(
                Reason::RestoreFailed,
                "the source had shared memory in /dev/shm, the new sandbox has none",
            )
        };
        // Of the sandbox itself: a container may have something else mounted there.
        let sandbox = Bundle::read(&request.bundle.with_file_name(&request.sandbox_id))?;
        let shm = sandbox.bound("/dev/shm").ok_or_else(nowhere)?;
        put(layer, &shm, caps, "the shared memory in /dev/shm")?;
    }
    if arrival.plan.owner == Owner::Kubelet {
        let bundle = Bundle::read(&request.bundle)?;
        volumes::put(&tree, arrival.plan.pod_uid.as_str(), bundle.sources(), caps)?;
    }
    std::fs::write(&mark, "").map_err(failed(format_args!("writing {}", mark.display())))
}

fn put(layer: File, into: &Path, caps: &rootfs::Caps, what: &str) -> Result<(), Fault> {
    rootfs::apply(layer, into, caps).map_err(|error| {
        Fault::new(
            Reason::RestoreFailed,
            format!("{what} can't be put into {}: {}", into.display(), chain(&error)),
        )
    })
}

fn layer(tree: &Path, names: &[&str]) -> Result<Option<File>, Fault> {
    for path in names.iter().map(|name| tree.join(name)) {
        match File::open(&path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(format_args!("opening {}", path.display()))(error)),
        }
    }
    Ok(None)
}

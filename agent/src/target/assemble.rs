//! The verified tree becomes what a runtime can restore: checked against the bundle, the root file system changed.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use transship_checkpoint::rootfs;
use transship_decision::wire::{Request, Restore};
use transship_proto::{Fault, Reason};

use super::arrival::AtWork;
use super::receive::TREE;
use crate::grants::Judge;
use crate::host::{blocking, failed};
use crate::node::{Node, chain};
use crate::runtime::{Bundle, CRIU_CONFIG_VARIABLE, sandbox_pid};

/// What CRIU is told: the tasks stay stopped, connections come back closed.
const CRIU_CONFIG: &str = "leave-stopped\ntcp-close\n";
/// How many entries a layer may have.
const LAYER_ENTRIES: u64 = 4_000_000;

/// Makes everything ready for the restore of one container, and says how it is to be done.
pub async fn assemble(
    node: &Node,
    arrival: &Arc<AtWork>,
    request: &Request,
) -> Result<(Restore, Judge), Fault> {
    let pid = match arrival.sandbox_pid() {
        Some(pid) => pid,
        None => sandbox_pid(&node.cri, &request.sandbox_id).await?,
    };
    let tree = arrival.workspace.path().join(TREE).join(&request.container);
    let work = arrival.workspace.folder(Path::new("restore").join(&request.container))?;
    let cgroups = arrival.restore_cgroup()?.paths().to_vec();
    let caps = rootfs::Caps { entries: LAYER_ENTRIES, bytes: arrival.plan.capacity };
    let request = request.clone();
    blocking(move || {
        let judge = Judge::of(&request.bundle, &request.sandbox_id, pid)?;
        let images = tree.join("images");
        judge.images(&images)?;
        let mut bundle = Bundle::read(&request.bundle)?;
        if let Some(layer) = layer(&tree, &["rootfs.tar", "rootfs-diff.tar"])? {
            put(layer, &bundle.root(), &caps, "the root file system's changes")?;
        }
        if let Some(layer) = layer(&tree, &["shm.tar"])? {
            let nowhere = || {
                Fault::new(
                    Reason::RestoreFailed,
                    "the source had shared memory in /dev/shm, the new sandbox has none",
                )
            };
            put(
                layer,
                &bundle.bound("/dev/shm").ok_or_else(nowhere)?,
                &caps,
                "the shared memory in /dev/shm",
            )?;
        }
        let config = work.join("criu.conf");
        std::fs::write(&config, CRIU_CONFIG).map_err(failed("writing CRIU's configuration"))?;
        bundle.drop_criu_config()?;
        let env = vec![(CRIU_CONFIG_VARIABLE.into(), config.display().to_string())];
        let restore = Restore { images, work, flags: vec!["--file-locks".into()], env, cgroups };
        Ok::<_, Fault>((restore, judge))
    })
    .await
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

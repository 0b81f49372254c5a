//! What the agent does to the node itself, beside the container runtime.

mod criu;
mod exit;
mod helper;
mod mounts;
mod netfilter;
pub mod process;
mod workspace;

pub use criu::remove_abandoned_folders;
pub use exit::Exit;
pub use helper::Armed;
pub use mounts::unmount_below;
pub use netfilter::sweep;
pub use workspace::Workspace;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use transship_checkpoint::log::CriuFailure;
use transship_decision::MigrationId;
use transship_freezer::{HostCgroup, join, of_init};
use transship_proto::{Fault, Reason};

/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// The cgroup, outside the agent's own, in which one migration's helpers of that kind work.
pub fn host_cgroup(migration: &MigrationId, kind: &str) -> Result<HostCgroup, Fault> {
    HostCgroup::create(CGROUPS.as_ref(), &helper_name(migration, kind))
        .map_err(|error| Fault::new(Reason::HostError, format!("a cgroup for the {kind}: {error}")))
}

/// Takes this process out of the watchdog's cgroup, in which a watchdog's recovery begins, to where the host's init is:
/// who ends a migration removes that cgroup, and can't while it is in there itself.
pub fn leave_watchdog() -> Result<(), Fault> {
    let left = of_init(CGROUPS.as_ref()).map_err(|error| error.to_string());
    left.and_then(|home| join(&home, std::process::id()).map_err(|error| error.to_string())).map_err(
        |error| Fault::new(Reason::HostError, format!("the watchdog's cgroup can't be left: {error}")),
    )
}

fn helper_name(migration: &MigrationId, kind: &str) -> String {
    format!("transship-{migration}-{kind}")
}

/// Removes a Pod's own cgroup, if nothing is in it any more. A kubelet does that for its Pods; on a single host nobody
/// else does.
pub fn remove_empty_parent(cgroup_parent: &str) -> Result<(), Fault> {
    let relative = cgroup_parent.trim_start_matches('/');
    // systemd's own slices are systemd's.
    if relative.is_empty() || relative.ends_with(".slice") { Ok(()) } else { remove_empty(relative) }
}

/// Removes what helpers of a migration that is over have left: who ends last can't remove its own cgroup.
pub fn remove_empty_helpers(migration: &MigrationId) -> Result<(), Fault> {
    let prefix = helper_name(migration, "");
    let below = hierarchies()?.into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let names = below.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found: BTreeSet<String> = names.filter(|name| name.starts_with(&prefix)).collect();
    found.iter().try_for_each(|name| remove_empty(name))
}

/// The roots of all hierarchies: what is mounted below, and the folder itself, which is the one of v2.
fn hierarchies() -> Result<Vec<PathBuf>, Fault> {
    let root = Path::new(CGROUPS);
    let entries = std::fs::read_dir(root).map_err(failed(format_args!("reading {CGROUPS}")))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).chain([root.to_path_buf()]).collect())
}

/// Removes a cgroup from every hierarchy in which it is empty.
fn remove_empty(relative: &str) -> Result<(), Fault> {
    for folder in hierarchies()?.into_iter().map(|hierarchy| hierarchy.join(relative)) {
        match std::fs::remove_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Something of the Pod is still there: it is not ours to remove then.
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(failed(format_args!("removing {}", folder.display()))(error)),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Work that blocks, off the threads that serve connections.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Fault>
where
    T: Send + 'static,
    E: Into<Fault> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Fault::new(Reason::HostError, format!("the agent's own work broke off: {error}")))?
        .map_err(Into::into)
}

/// A failed operation on this host, as a fault: `doing` completes "… failed".
pub fn failed(doing: impl Display) -> impl FnOnce(std::io::Error) -> Fault {
    move |error| Fault::new(Reason::HostError, format!("{doing} failed: {error}"))
}

/// What CRIU's log tells, as a fault: of its own reason where the project has one of that name, else of `otherwise`.
pub fn criu_fault(otherwise: Reason, found: &CriuFailure) -> Fault {
    let line = found.line.as_deref().unwrap_or("no error in its log");
    let what = format!("{} ({}: {line}); {}", found.message, found.reason, found.mend);
    Fault::new(found.reason.parse().unwrap_or(otherwise), what)
}

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::{Controller, hierarchy, parse_entry};
use crate::{Cgroup, FindError, KillError, Version};

/// Of v1, the hierarchies that matter: who is killed together (a runtime kills a container by what it finds in
/// `devices`, systemd a service by its own), whose memory is charged, how many there may be.
const V1_HIERARCHIES: [&str; 5] = ["freezer", "memory", "pids", "devices", "systemd"];

/// A cgroup of transship's own on the host: for CRIU, for pagers, for a watchdog, so that they outlive the
/// agent's own container and can be killed as one.
#[derive(Clone, Debug)]
pub struct HostCgroup {
    /// The folders, the freezer's first.
    paths: Vec<PathBuf>,
    freezer: Cgroup,
}

/// Why a host cgroup could not be made, joined or removed.
#[derive(Debug, thiserror::Error)]
pub enum HostCgroupError {
    /// No cgroups where they were looked for.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A name with a slash, or none.
    #[error("{0:?} can't be the name of a cgroup: one path component is needed")]
    Name(String),
    /// The kernel refused.
    #[error("cgroup {}: {source}", path.display())]
    Kernel {
        /// The folder or file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl HostCgroup {
    /// Makes the cgroup `name` (one path component) below `mounts` (`/sys/fs/cgroup`): under v1 in the
    /// hierarchies of freezer, memory, pids, devices and systemd, as far as they are mounted; under v2 in the one. One
    /// that is there already is taken.
    ///
    /// # Errors
    /// [`HostCgroupError`].
    pub fn create(mounts: &Path, name: &str) -> Result<Self, HostCgroupError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(HostCgroupError::Name(name.to_owned()));
        }
        let (hierarchy, version) = hierarchy(mounts)?;
        let paths: Vec<PathBuf> = match version {
            Version::V2 => vec![hierarchy.join(name)],
            Version::V1 => v1_roots(mounts).map(|(_, root)| root.join(name)).collect(),
        };
        for path in &paths {
            match fs::create_dir(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(kernel(path)(e)),
                _ => {}
            }
        }
        let freezer = Cgroup::at(hierarchy.join(name))?;
        Ok(Self { paths, freezer })
    }

    /// Its folders: one for each v1 hierarchy, or the one of v2. [`join`] takes them.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The cgroup in which its processes can be listed, waited for and killed.
    pub fn cgroup(&self) -> &Cgroup {
        &self.freezer
    }

    /// Puts a process into it.
    ///
    /// # Errors
    /// [`HostCgroupError::Kernel`].
    pub fn add(&self, pid: u32) -> Result<(), HostCgroupError> {
        join(&self.paths, pid)
    }

    /// Kills all that is in it, and waits until it is empty.
    ///
    /// # Errors
    /// [`KillError`].
    pub fn kill(&self, within: Duration) -> Result<(), KillError> {
        self.freezer.kill(within)
    }

    /// Removes it; it must be empty. Gone before is fine.
    ///
    /// # Errors
    /// [`HostCgroupError::Kernel`], `ResourceBusy` if something is still in it.
    pub fn remove(&self) -> Result<(), HostCgroupError> {
        for path in &self.paths {
            match fs::remove_dir(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(kernel(path)(e)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Puts a process into the cgroup of each folder.
///
/// # Errors
/// [`HostCgroupError::Kernel`]; the process may be in some of them then.
pub fn join(paths: &[PathBuf], pid: u32) -> Result<(), HostCgroupError> {
    for path in paths {
        let file = path.join("cgroup.procs");
        fs::write(&file, pid.to_string()).map_err(kernel(&file))?;
    }
    Ok(())
}

/// The folders of the cgroups in which the host's init is, one for each v1 hierarchy that [`HostCgroup`] uses, or the one
/// of v2: they outlive everything, and take processes even where the root doesn't (in a cgroup namespace under v2).
///
/// # Errors
/// [`FindError`].
pub fn of_init(mounts: &Path) -> Result<Vec<PathBuf>, FindError> {
    let (hierarchy, version) = hierarchy(mounts)?;
    let text = fs::read_to_string("/proc/1/cgroup").map_err(|source| FindError::Proc { pid: 1, source })?;
    let below = |root: PathBuf, path: &str| root.join(path.trim_start_matches('/'));
    Ok(match version {
        Version::V2 => {
            let path = parse_entry(&text, Controller::Unified).ok_or(FindError::NoEntry(1))?;
            vec![below(hierarchy, &path)]
        }
        Version::V1 => v1_roots(mounts)
            .filter_map(|(controller, root)| {
                Some(below(root, &parse_entry(&text, Controller::V1(controller))?))
            })
            .filter(|path| path.join("cgroup.procs").exists())
            .collect(),
    })
}

/// The v1 hierarchies that matter and are mounted: their names and their roots.
fn v1_roots(mounts: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let roots = V1_HIERARCHIES.into_iter().map(|controller| (controller, mounts.join(controller)));
    roots.filter(|(_, root)| root.join("cgroup.procs").exists())
}

fn kernel(path: &Path) -> impl Fn(io::Error) -> HostCgroupError {
    let path = path.to_owned();
    move |source| HostCgroupError::Kernel { path: path.clone(), source }
}

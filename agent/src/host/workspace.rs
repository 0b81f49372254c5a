//! One tmpfs per migration, for the images.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};
use transship_decision::{MigrationId, RunDir};
use transship_proto::Fault;

use super::{failed, unmount_below};

/// A size-limited tmpfs that holds one migration's images on this node, readable by root alone.
#[derive(Debug, Clone)]
pub struct Workspace {
    path: PathBuf,
}

impl Workspace {
    /// Makes it, for at most `capacity` bytes.
    pub fn create(run: &RunDir, migration: &MigrationId, capacity: u64) -> Result<Self, Fault> {
        let path = run.work_path(migration);
        fs::create_dir_all(&path).map_err(failed(format_args!("making {}", path.display())))?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        let doing = format!("mounting a tmpfs of {capacity} bytes on {}", path.display());
        let options = CString::new(format!("size={capacity},mode=0700")).unwrap_or_default();
        mount("transship", &path, "tmpfs", flags, options.as_c_str())
            .map_err(|errno| failed(doing)(errno.into()))?;
        Ok(Self { path })
    }

    /// The one that an agent before this one made, or nothing.
    pub fn open(run: &RunDir, migration: &MigrationId) -> Option<Self> {
        let path = run.work_path(migration);
        path.is_dir().then_some(Self { path })
    }

    /// A folder in it, made if missing.
    pub fn folder(&self, name: impl AsRef<Path>) -> Result<PathBuf, Fault> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(failed(format_args!("making {}", path.display())))?;
        Ok(path)
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with everything in it. What is mounted inside goes first: a killed CRIU leaves all cgroup
    /// hierarchies mounted in its work folder, and a deletion must not walk into those.
    pub fn remove(&self) -> Result<(), Fault> {
        unmount_below(&self.path)?;
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(format_args!("removing {}", self.path.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

//! An OCI bundle's `config.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use transship_proto::{Fault, Reason};

use crate::host::failed;

/// The annotation by which runc finds a configuration for CRIU (runc, `docs/checkpoint-restore.md`).
const CRIU_ANNOTATION: &str = "org.criu.config";

/// A container's bundle as the container runtime has made it.
#[derive(Debug, Clone)]
pub struct Bundle {
    path: PathBuf,
    config: Value,
}

impl Bundle {
    /// Reads the bundle in that folder.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let file = path.join("config.json");
        let text = std::fs::read(&file).map_err(failed(format_args!("reading {}", file.display())))?;
        let config = serde_json::from_slice(&text).map_err(|error| {
            Fault::new(Reason::RuntimeError, format!("{} can't be read: {error}", file.display()))
        })?;
        Ok(Self { path: path.into(), config })
    }

    /// Where its root file system is mounted.
    pub fn root(&self) -> PathBuf {
        self.path.join(self.config.pointer("/root/path").and_then(Value::as_str).unwrap_or("rootfs"))
    }

    /// The folder of the node that is bound to that place in the container, if one is.
    pub fn bound(&self, destination: &str) -> Option<PathBuf> {
        let text = |mount: &Value, key: &str| mount.get(key).and_then(Value::as_str).map(str::to_owned);
        let mounts = self.config.get("mounts")?.as_array()?;
        let mount = mounts.iter().find(|mount| text(mount, "destination").as_deref() == Some(destination))?;
        if text(mount, "type").as_deref() == Some("bind") {
            text(mount, "source").map(PathBuf::from)
        } else {
            None
        }
    }

    /// All files and folders of the node that are bound to somewhere in the container.
    pub fn sources(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let mounts = self.config.get("mounts").and_then(Value::as_array).into_iter().flatten();
        let bound = mounts.filter(|mount| mount.get("type").and_then(Value::as_str) == Some("bind"));
        bound.filter_map(|mount| mount.get("source").and_then(Value::as_str).map(PathBuf::from))
    }

    /// The configuration that the bundle itself names for CRIU.
    pub fn criu_config(&self) -> Option<&str> {
        self.config.get("annotations")?.get(CRIU_ANNOTATION)?.as_str()
    }

    /// Takes away the configuration that the bundle names for CRIU: on this node the agent decides how a restore is done.
    pub fn drop_criu_config(&mut self) -> Result<(), Fault> {
        let annotations = self.config.get_mut("annotations").and_then(Value::as_object_mut);
        if annotations.and_then(|annotations| annotations.remove(CRIU_ANNOTATION)).is_none() {
            return Ok(());
        }
        let file = self.path.join("config.json");
        let staged = self.path.join(".config.json.transship");
        let doing = || failed(format!("writing {}", file.display()));
        std::fs::write(&staged, self.config.to_string()).map_err(doing())?;
        std::fs::rename(&staged, &file).map_err(doing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bundle_names_is_found_and_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"root": {"path": "fs"}, "annotations": {"org.criu.config": "/theirs"}, "mounts": [
            {"destination": "/dev/shm", "type": "bind", "source": "/host/shm"}, {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]});
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let mut bundle = Bundle::read(folder.path()).unwrap();
        assert_eq!(bundle.root(), folder.path().join("fs"));
        assert_eq!(bundle.bound("/dev/shm"), Some("/host/shm".into()));
        assert_eq!(bundle.bound("/tmp"), None);
        assert_eq!(bundle.sources().collect::<Vec<_>>(), [PathBuf::from("/host/shm")]);
        assert_eq!(bundle.criu_config(), Some("/theirs"));
        bundle.drop_criu_config().unwrap();
        assert_eq!(Bundle::read(folder.path()).unwrap().criu_config(), None);
    }
}

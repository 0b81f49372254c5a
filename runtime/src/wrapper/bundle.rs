use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a bundle's container is in its Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that holds the namespaces.
    Sandbox,
    Container,
}

/// A bundle, and whose it is.
#[derive(Debug)]
pub(super) struct Bundle {
    /// Absolute.
    pub path: PathBuf,
    pub role: Role,
    pub pod_uid: Option<String>,
    pub container: Option<String>,
    pub sandbox_id: Option<String>,
    /// Device and inode of the folder, to know it again.
    identity: (u64, u64),
}

#[derive(Deserialize)]
struct Spec {
    annotations: Option<Annotations>,
}

/// The annotations that container runtimes make themselves. A Pod's author has no say in them: containerd
/// writes its own over whatever it passes on, CRI-O the labels that the kubelet sets over annotations.
#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-type")]
    containerd_type: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-uid")]
    containerd_uid: Option<String>,
    #[serde(rename = "io.kubernetes.cri.container-name")]
    containerd_container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-id")]
    containerd_sandbox: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ContainerType")]
    crio_type: Option<String>,
    #[serde(rename = "io.kubernetes.pod.uid")]
    crio_uid: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    crio_container: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.SandboxID")]
    crio_sandbox: Option<String>,
}

impl Bundle {
    /// `None` for a folder without a readable `config.json`.
    pub fn open(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let identity = identity(&path)?;
        let spec: Spec = serde_json::from_slice(&fs::read(path.join("config.json")).ok()?).ok()?;
        let a = spec.annotations.unwrap_or_default();
        // One runtime's names only, never a mixture.
        let (kind, pod_uid, container, sandbox_id) = if a.containerd_type.is_some() {
            (a.containerd_type, a.containerd_uid, a.containerd_container, a.containerd_sandbox)
        } else if a.crio_type.is_some() {
            (a.crio_type, a.crio_uid, a.crio_container, a.crio_sandbox)
        } else {
            (None, None, None, None)
        };
        let role = if kind.as_deref() == Some("sandbox") { Role::Sandbox } else { Role::Container };
        Some(Self { path, role, pod_uid, container, sandbox_id, identity })
    }

    /// Whether it is still the folder that it was. A runtime that gives a call up removes the bundle and
    /// leaves the wrapper behind, which must then do nothing any more.
    pub fn is_there(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(annotations: &str) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let spec =
            format!(r#"{{"ociVersion":"1.2.0","process":{{"args":["x"]}},"annotations":{annotations}}}"#);
        fs::write(folder.path().join("config.json"), spec).unwrap();
        Bundle::open(folder.path()).unwrap()
    }

    #[test]
    fn containerd_and_crio_say_whose_it_is() {
        let containerd = bundle(
            r#"{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-uid":"u-1",
                "io.kubernetes.cri.container-name":"main","io.kubernetes.cri.sandbox-id":"s-1",
                "io.kubernetes.pod.uid":"spoofed","io.kubernetes.cri-o.ContainerType":"sandbox"}"#,
        );
        let crio = bundle(
            r#"{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.pod.uid":"u-1",
                "io.kubernetes.container.name":"main","io.kubernetes.cri-o.SandboxID":"s-1"}"#,
        );
        for bundle in [containerd, crio] {
            assert_eq!(bundle.role, Role::Container);
            assert_eq!(bundle.pod_uid.as_deref(), Some("u-1"));
            assert_eq!(bundle.container.as_deref(), Some("main"));
            assert_eq!(bundle.sandbox_id.as_deref(), Some("s-1"));
        }
    }

    #[test]
    fn what_no_runtime_vouches_for_belongs_to_no_pod() {
        for annotations in ["null", "{}", r#"{"io.kubernetes.pod.uid":"u-1"}"#] {
            assert_eq!(bundle(annotations).pod_uid, None, "{annotations}");
        }
    }

    #[test]
    fn a_bundle_that_was_removed_and_made_again_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("config.json"), "{}").unwrap();
        let bundle = Bundle::open(&path).unwrap();
        assert!(bundle.is_there());
        fs::rename(&path, folder.path().join("old")).unwrap();
        assert!(!bundle.is_there());
        fs::create_dir(&path).unwrap();
        assert!(!bundle.is_there());
    }
}

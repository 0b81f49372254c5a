//! A Pod's volumes: `emptyDir`s follow it, what the target's kubelet makes by itself needn't, and the rest can't.
//!
//! A kubelet keeps all of a Pod's in the Pod's own folder, `…/pods/UID/volumes/KIND/NAME`, and has the container runtime
//! bind them into the containers.

use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use transship_checkpoint::rootfs;
use transship_proto::cri::ContainerConfig;
use transship_proto::{Fault, Reason};

use crate::host::failed;
use crate::node::chain;

/// The folder of `emptyDir`s, in memory or not.
const EMPTY_DIR: &str = "kubernetes.io~empty-dir";
/// `HUGETLBFS_MAGIC` (linux/magic.h): an `emptyDir` of huge pages, which can't be read as files.
const HUGE_PAGES: u64 = 0x9584_58f6;
/// What the target's kubelet makes anew from what the API server says.
const MADE_ANEW: [&str; 4] = [
    "kubernetes.io~projected",
    "kubernetes.io~configmap",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
];

/// A Pod's folder in its kubelet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFolder(PathBuf);

impl PodFolder {
    /// The folder of that Pod, as the path of something in it shows.
    pub fn above(path: &Path, pod_uid: &str) -> Option<Self> {
        let pods = Path::new("pods").join(pod_uid);
        path.ancestors().find(|folder| folder.ends_with(&pods)).map(|folder| Self(folder.to_owned()))
    }

    /// Its `emptyDir`s by their names, in their order.
    pub fn empty_dirs(&self) -> Result<Vec<EmptyDir>, Fault> {
        let folder = self.0.join("volumes").join(EMPTY_DIR);
        let mut found = Vec::new();
        for name in names(&folder)? {
            found.push(EmptyDir { path: folder.join(&name), name });
        }
        Ok(found)
    }

    /// The `emptyDir` of that name.
    pub fn empty_dir(&self, name: &str) -> Option<PathBuf> {
        let path = self.0.join("volumes").join(EMPTY_DIR).join(name);
        let plain = Path::new(name).components().eq([Component::Normal(name.as_ref())]);
        (plain && path.is_dir()).then_some(path)
    }

    /// Its volumes that can't follow.
    fn refusals(&self) -> Result<Vec<Fault>, Fault> {
        let volumes = self.0.join("volumes");
        let mut found = Vec::new();
        for EmptyDir { name, path } in self.empty_dirs()? {
            let about = rustix::fs::statfs(&path)
                .map_err(|errno| failed(format_args!("looking at {}", path.display()))(errno.into()))?;
            if u64::try_from(about.f_type).is_ok_and(|kind| kind == HUGE_PAGES) {
                let what =
                    format!("the Pod's emptyDir {name} is of huge pages, which this version can't move");
                found.push(Fault::new(Reason::UnsupportedVolume, what));
            }
        }
        for kind in names(&volumes)? {
            if kind == EMPTY_DIR || MADE_ANEW.contains(&kind.as_str()) {
                continue;
            }
            for name in names(&volumes.join(&kind))? {
                let shown = kind.rsplit('~').next().unwrap_or_default();
                let what = format!(
                    "the Pod's volume {name} is of the kind {shown}, which this version can't move; it moves emptyDir and what a kubelet makes by itself"
                );
                found.push(Fault::new(Reason::UnsupportedVolume, what));
            }
        }
        if !names(&self.0.join("volumeDevices"))?.is_empty() {
            let what = "the Pod has a block device as a volume, which this version can't move";
            found.push(Fault::new(Reason::UnsupportedVolume, what));
        }
        Ok(found)
    }
}

/// An `emptyDir` of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmptyDir {
    /// Its name in the Pod.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl EmptyDir {
    /// Where its content lies in a migration's tree: no container can have that name.
    pub fn label(&self) -> String {
        format!("pod/{VOLUMES}/{}.tar", self.name)
    }
}

/// The folder of volumes in a migration's tree, in that of what belongs to all containers.
const VOLUMES: &str = "volumes";

/// What of a Pod's containers' mounts lies in the Pod's folder, and what can't follow.
#[derive(Debug, Default)]
pub struct Volumes {
    /// What follows.
    pub empty_dirs: Vec<EmptyDir>,
    /// Why the Pod can't be moved.
    pub refusals: Vec<Fault>,
}

/// Looks at the mounts of all containers of a Pod, and takes away from their configurations what isn't the source's to
/// decide: on the target its own kubelet makes them.
pub fn look<'a>(
    containers: impl Iterator<Item = &'a mut ContainerConfig>,
    pod_uid: &str,
) -> Result<Volumes, Fault> {
    let (mut folder, mut volumes) = (None, Volumes::default());
    for container in containers {
        let name = container.metadata.as_ref().map(|data| data.name.clone()).unwrap_or_default();
        for mount in std::mem::take(&mut container.mounts) {
            match PodFolder::above(Path::new(&mount.host_path), pod_uid) {
                Some(found) => folder = Some(found),
                // A mounted image has no path: the kubelet knows its name.
                None if mount.host_path.is_empty() => {}
                None => {
                    let what = format!(
                        "{name} has the host's {} mounted at {}, which can't follow to another node",
                        mount.host_path, mount.container_path
                    );
                    volumes.refusals.push(Fault::new(Reason::HostPathVolume, what));
                }
            }
        }
    }
    if let Some(folder) = folder {
        volumes.empty_dirs = folder.empty_dirs()?;
        volumes.refusals.extend(folder.refusals()?);
    }
    Ok(volumes)
}

/// The `emptyDir`s in what of the migration's verified tree belongs to the whole Pod, each with the archive of its content.
fn carried(tree: &Path) -> Result<Vec<(String, PathBuf)>, Fault> {
    let folder = tree.join(VOLUMES);
    let files = names(&folder)?.into_iter();
    Ok(files.filter_map(|file| Some((file.strip_suffix(".tar")?.to_owned(), folder.join(&file)))).collect())
}

/// Puts the content of all `emptyDir`s in `tree`, what of a migration's verified tree belongs to the whole Pod, into those
/// of the Pod whose folder holds one of `bound`. To be done before anything of the Pod runs.
pub fn put(
    tree: &Path,
    pod_uid: &str,
    bound: impl Iterator<Item = PathBuf>,
    caps: &rootfs::Caps,
) -> Result<(), Fault> {
    let carried = carried(tree)?;
    if carried.is_empty() {
        return Ok(());
    }
    let refused = |what: String| Fault::new(Reason::RestoreFailed, what);
    let mut bound = bound;
    let folder = bound.find_map(|path| PodFolder::above(&path, pod_uid)).ok_or_else(|| {
        refused(
            "the source's Pod had volumes, and the target's has no folder of its own that is mounted".into(),
        )
    })?;
    for (name, archive) in carried {
        let into = folder.empty_dir(&name).ok_or_else(|| {
            refused(format!("the target's Pod has no emptyDir {name}; both Pods must have the same volumes"))
        })?;
        clear(&into)?;
        let content = File::open(&archive).map_err(failed(format_args!("opening {}", archive.display())))?;
        rootfs::apply(content, &into, caps).map_err(|error| {
            refused(format!("emptyDir {name} can't be put into {}: {}", into.display(), chain(&error)))
        })?;
    }
    Ok(())
}

/// Removes all files below a folder; links are not followed. Folders stay: a kubelet makes those that it mounts into a
/// container by themselves (`subPath`) before that is created.
fn clear(folder: &Path) -> Result<(), Fault> {
    let doing = |path: &Path| failed(format!("emptying {}", path.display()));
    for entry in fs::read_dir(folder).map_err(doing(folder))? {
        let entry = entry.map_err(doing(folder))?;
        let path = entry.path();
        if entry.file_type().map_err(doing(&path))?.is_dir() {
            clear(&path)?;
        } else {
            fs::remove_file(&path).map_err(doing(&path))?;
        }
    }
    Ok(())
}

/// The names that a kubelet has given in a folder of its own, in their order; none if it isn't there.
fn names(folder: &Path) -> Result<Vec<String>, Fault> {
    let doing = || failed(format!("reading {}", folder.display()));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(doing()(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.map_err(doing())?.file_name().to_string_lossy().into_owned());
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use transship_proto::cri::{ContainerMetadata, Mount};

    use super::*;

    const UID: &str = "0b2c";

    /// A kubelet's folder with that Pod's.
    fn kubelet() -> (tempfile::TempDir, PathBuf) {
        let kubelet = tempfile::tempdir().unwrap();
        let pod = kubelet.path().join("pods").join(UID);
        for folder in [
            "volumes/kubernetes.io~empty-dir/b",
            "volumes/kubernetes.io~empty-dir/a",
            "volumes/kubernetes.io~secret/s",
        ] {
            fs::create_dir_all(pod.join(folder)).unwrap();
        }
        (kubelet, pod)
    }

    fn container(paths: &[&Path]) -> ContainerConfig {
        let mounts =
            paths.iter().map(|path| Mount { host_path: path.display().to_string(), ..Mount::default() });
        let metadata = Some(ContainerMetadata { name: "main".into(), attempt: 0 });
        ContainerConfig { metadata, mounts: mounts.collect(), ..ContainerConfig::default() }
    }

    #[test]
    fn empty_dirs_follow_and_the_kubelet_s_own_needn_t() {
        let (_kubelet, pod) = kubelet();
        let mut main = container(&[&pod.join("etc-hosts"), &pod.join("volumes/kubernetes.io~secret/s")]);
        let volumes = look([&mut main].into_iter(), UID).unwrap();
        assert!(volumes.refusals.is_empty(), "{:?}", volumes.refusals);
        let labels: Vec<String> = volumes.empty_dirs.iter().map(EmptyDir::label).collect();
        assert_eq!(labels, ["pod/volumes/a.tar", "pod/volumes/b.tar"]);
        assert!(main.mounts.is_empty());
    }

    #[test]
    fn the_host_s_own_and_other_volumes_are_refused() {
        let (_kubelet, pod) = kubelet();
        fs::create_dir_all(pod.join("volumes/kubernetes.io~csi/data/mount")).unwrap();
        let other = pod.with_file_name("other-pod").join("etc-hosts");
        let mut main = container(&[&pod.join("etc-hosts"), Path::new("/srv"), &other]);
        let reasons: Vec<Reason> =
            look([&mut main].into_iter(), UID).unwrap().refusals.iter().map(|fault| fault.reason).collect();
        assert_eq!(reasons, [Reason::HostPathVolume, Reason::HostPathVolume, Reason::UnsupportedVolume]);
    }

    #[test]
    fn a_volume_s_content_takes_the_place_of_what_was_there() {
        let ((_one, source), (_other, target)) = (kubelet(), kubelet());
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join(VOLUMES)).unwrap();
        let [from, into] = [&source, &target].map(|pod| pod.join("volumes/kubernetes.io~empty-dir/a"));
        fs::write(from.join("kept"), "content").unwrap();
        fs::create_dir(into.join("mounted")).unwrap();
        fs::write(into.join("mounted/old"), "").unwrap();
        let archive = File::create(tree.path().join(VOLUMES).join("a.tar")).unwrap();
        rootfs::capture(&from, archive).unwrap();
        let caps = rootfs::Caps { entries: 100, bytes: 1 << 20 };
        put(tree.path(), UID, [target.join("etc-hosts")].into_iter(), &caps).unwrap();
        assert_eq!(fs::read_to_string(into.join("kept")).unwrap(), "content");
        assert!(into.join("mounted").is_dir() && !into.join("mounted/old").exists());

        fs::remove_dir_all(&into).unwrap();
        let missing = put(tree.path(), UID, [target.join("etc-hosts")].into_iter(), &caps).unwrap_err();
        assert!(missing.message.contains("no emptyDir a"), "{missing}");
        assert!(put(tree.path(), UID, std::iter::empty(), &caps).is_err());
    }

    #[test]
    fn a_volume_is_a_folder_of_its_own() {
        let (_kubelet, pod) = kubelet();
        let folder = PodFolder::above(&pod.join("containers/main/x"), UID).unwrap();
        assert_eq!(folder.empty_dir("a"), Some(pod.join("volumes/kubernetes.io~empty-dir/a")));
        for other in ["c", "..", "a/..", "/", ""] {
            assert_eq!(folder.empty_dir(other), None, "{other:?}");
        }
        assert_eq!(PodFolder::above(Path::new("/srv/pods/other/x"), UID), None);
    }
}

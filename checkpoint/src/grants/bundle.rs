//! What a bundle grants (OCI runtime specification 1.2, `config.json`).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::caps::CapSet;
use super::claim::{Capabilities, FileId, Namespace, Restrictions};
use super::files::{file_id, resolve_in};
use super::limits::{Limits, Resource};
use super::seccomp::{Profile, ProfileError};

/// The largest `config.json` that is read. A generous one has a hundred kB.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// What a container's bundle grants to its processes.
#[derive(Clone, Debug)]
pub struct Grant {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) groups: Vec<u32>,
    pub(super) capabilities: Capabilities,
    pub(super) no_new_privileges: bool,
    pub(super) seccomp: Option<Profile>,
    pub(super) limits: Limits,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) mounts: Vec<Granted>,
    /// Paths that must show nothing, as far as they exist.
    pub(super) masked: Vec<PathBuf>,
    /// Paths that must not be changed, as far as they exist.
    pub(super) read_only: Vec<PathBuf>,
    pub(super) cgroup: String,
    /// Namespaces that aren't the node's: a given one, or a new one.
    pub(super) namespaces: BTreeMap<Namespace, Option<FileId>>,
    pub(super) label: Option<String>,
}

/// A mount that the bundle grants.
#[derive(Clone, Debug)]
pub(super) struct Granted {
    /// Where, with the links of the root file system followed.
    pub at: PathBuf,
    /// Where, as the bundle has it.
    pub destination: String,
    pub what: Source,
    pub restrictions: Restrictions,
}

impl Granted {
    /// Whether a restore takes this mount for the key, the path by which images and bundle find each other: runc has
    /// the one with links followed, crun the bundle's own.
    pub fn has_key(&self, key: &str) -> bool {
        Path::new(key) == self.at || key == self.destination
    }
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The bundle's root file system.
    Root(FileId),
    /// A file or directory of the node; none if it isn't there.
    Bind(Option<FileId>),
    /// A cgroup hierarchy, or on v1 a directory of them.
    Cgroup,
    /// A new file system of this type.
    New(String),
}

/// Why a bundle can't be read.
#[derive(Debug, Error)]
pub enum GrantError {
    /// A file of it can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `config.json` isn't one.
    #[error("{path} is no OCI configuration: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It says something that this version of transship doesn't know, and so can't hold anything against.
    #[error("{path} has the {what} `{name}`, which is unknown here; a newer transship may know it")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no `process`, `root` or `linux`.
    #[error("{path} lacks `{what}`: no container can be made of it")]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
}

impl Grant {
    /// The path of the container's cgroup in its hierarchies, such as `/kubepods/pod…/ID`.
    pub fn cgroup(&self) -> String {
        super::cgroup::path(&self.cgroup)
    }

    /// Reads the bundle in the directory `bundle`, whose root file system is mounted there already.
    ///
    /// Links within the root file system are followed now, as a runtime follows them when it mounts; so this comes
    /// before anything of a checkpoint is put there.
    pub fn from_bundle(bundle: &Path) -> Result<Self, GrantError> {
        let path = bundle.join("config.json");
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_CONFIG_BYTES).read_to_end(&mut text));
        let config = match read {
            Ok(_) => serde_json::from_slice::<Config>(&text),
            Err(source) => return Err(GrantError::Read { path, source }),
        };
        match config {
            Ok(config) => config.grant(bundle, &path),
            Err(source) => Err(GrantError::Parse { path, source }),
        }
    }
}

#[derive(Deserialize)]
struct Config {
    process: Option<Process>,
    root: Option<Root>,
    #[serde(default)]
    mounts: Vec<BundleMount>,
    linux: Option<Linux>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default)]
    user: User,
    #[serde(default)]
    capabilities: CapabilityNames,
    #[serde(default)]
    no_new_privileges: bool,
    #[serde(default)]
    rlimits: Vec<Rlimit>,
    oom_score_adj: Option<i32>,
    apparmor_profile: Option<String>,
    selinux_label: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct User {
    uid: u32,
    gid: u32,
    additional_gids: Vec<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CapabilityNames {
    inheritable: Vec<String>,
    permitted: Vec<String>,
    effective: Vec<String>,
    bounding: Vec<String>,
    ambient: Vec<String>,
}

#[derive(Deserialize)]
struct Rlimit {
    r#type: String,
    hard: u64,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
    #[serde(default)]
    readonly: bool,
}

#[derive(Deserialize)]
struct BundleMount {
    destination: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(default)]
    cgroups_path: String,
    #[serde(default)]
    namespaces: Vec<NamespaceEntry>,
    #[serde(default)]
    masked_paths: Vec<PathBuf>,
    #[serde(default)]
    readonly_paths: Vec<PathBuf>,
    seccomp: Option<super::seccomp::ProfileConfig>,
}

#[derive(Deserialize)]
struct NamespaceEntry {
    r#type: String,
    path: Option<PathBuf>,
}

impl Config {
    fn grant(self, bundle: &Path, path: &Path) -> Result<Grant, GrantError> {
        let lacks = |what| GrantError::Lacks { path: path.to_owned(), what };
        let unknown =
            |what, name: &str| GrantError::Unknown { path: path.to_owned(), what, name: name.to_owned() };
        let process = self.process.ok_or_else(|| lacks("process"))?;
        let root = self.root.ok_or_else(|| lacks("root"))?;
        let linux = self.linux.ok_or_else(|| lacks("linux"))?;

        let caps = |names: &[String]| -> Result<CapSet, GrantError> {
            names.iter().map(|name| CapSet::named(name).ok_or_else(|| unknown("capability", name))).collect()
        };
        let capabilities = Capabilities {
            inheritable: caps(&process.capabilities.inheritable)?,
            permitted: caps(&process.capabilities.permitted)?,
            effective: caps(&process.capabilities.effective)?,
            bounding: caps(&process.capabilities.bounding)?,
            ambient: caps(&process.capabilities.ambient)?,
        };
        let mut limits = Limits::default();
        for rlimit in &process.rlimits {
            let resource = Resource::named(&rlimit.r#type).ok_or_else(|| unknown("limit", &rlimit.r#type))?;
            limits.set(resource, rlimit.hard);
        }

        let root_path = bundle.join(&root.path);
        let mounts = granted_mounts(&root_path, root.readonly, &self.mounts)?;
        let exists = |path: &PathBuf| match path.starts_with("/proc") || path.starts_with("/sys") {
            true => fs::symlink_metadata(path).is_ok(),
            false => fs::symlink_metadata(root_path.join(resolve_in(&root_path, path).relative())).is_ok(),
        };
        let seccomp = linux.seccomp.map(Profile::try_from).transpose();
        Ok(Grant {
            user: process.user.uid,
            group: process.user.gid,
            groups: process.user.additional_gids,
            capabilities,
            no_new_privileges: process.no_new_privileges,
            seccomp: seccomp.map_err(|ProfileError { what, name }| unknown(what, &name))?,
            limits,
            oom_score_adj: process.oom_score_adj,
            mounts,
            masked: linux.masked_paths.into_iter().filter(exists).collect(),
            read_only: linux.readonly_paths.into_iter().filter(exists).collect(),
            cgroup: linux.cgroups_path,
            namespaces: namespaces(&linux.namespaces, unknown)?,
            label: process.apparmor_profile.or(process.selinux_label).filter(|label| !label.is_empty()),
        })
    }
}

fn granted_mounts(
    root: &Path,
    root_read_only: bool,
    mounts: &[BundleMount],
) -> Result<Vec<Granted>, GrantError> {
    let root_id = file_id(root).map_err(|source| GrantError::Read { path: root.to_owned(), source })?;
    let mut granted = vec![Granted {
        at: PathBuf::from("/"),
        destination: "/".to_owned(),
        what: Source::Root(root_id),
        restrictions: Restrictions { read_only: root_read_only, ..Default::default() },
    }];
    for mount in mounts {
        let option = |names: &[&str]| mount.options.iter().any(|option| names.contains(&option.as_str()));
        let what = if mount.r#type == "bind" || option(&["bind", "rbind"]) {
            // A source that isn't there yet is made by the runtime or fails the restore; nothing is granted by it now.
            Source::Bind(file_id(&mount.source).ok())
        } else if matches!(mount.r#type.as_str(), "cgroup" | "cgroup2") {
            Source::Cgroup
        } else {
            Source::New(mount.r#type.clone())
        };
        granted.push(Granted {
            at: resolve_in(root, Path::new(&mount.destination)).absolute(),
            destination: mount.destination.clone(),
            what,
            restrictions: Restrictions {
                read_only: option(&["ro", "rro"]),
                nosuid: option(&["nosuid", "rnosuid"]),
                nodev: option(&["nodev", "rnodev"]),
                noexec: option(&["noexec", "rnoexec"]),
            },
        });
    }
    Ok(granted)
}

fn namespaces(
    entries: &[NamespaceEntry],
    unknown: impl Fn(&'static str, &str) -> GrantError,
) -> Result<BTreeMap<Namespace, Option<FileId>>, GrantError> {
    let mut namespaces = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.r#type != "time") {
        let kind = Namespace::ALL.iter().find_map(|(kind, name, _)| (*name == entry.r#type).then_some(*kind));
        let kind = kind.ok_or_else(|| unknown("namespace", &entry.r#type))?;
        let given = match entry.path.as_deref().filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => {
                Some(file_id(path).map_err(|source| GrantError::Read { path: path.to_owned(), source })?)
            }
            None => None,
        };
        namespaces.insert(kind, given);
    }
    Ok(namespaces)
}

//! What a lab is asked to be, and what it was made with.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::Agents;
use crate::cgroup::CgroupVersion;
use crate::error::{At, LabError, Result};
use crate::kubernetes::Cluster;
use crate::network::Link;

const FILE: &str = "lab.json";

/// What a lab is to be like.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Letters, digits and dashes. Labs of different names run beside each other.
    pub name: String,
    /// The links between the nodes.
    pub link: Link,
    /// Of every interface, in bytes. Default 1500.
    pub mtu: u32,
    /// What the nodes see; `None`: the version that the host's own services use.
    pub cgroups: Option<CgroupVersion>,
    /// A folder of static programs: the test programs that the images [`WORKLOADS`](crate::WORKLOADS) are made of, and
    /// `transship`, `transship-runtime` and `transship-watchdog`. Those three go to /usr/local/bin of both nodes, if
    /// they are there; the second is then the nodes' OCI runtime.
    pub programs: PathBuf,
    /// Whether transship's agents are started. Default: yes.
    pub agents: Agents,
    /// Whether the nodes are a cluster's. Default: no.
    pub cluster: Cluster,
}

/// The environment variable that names the folder of programs to a test or a benchmark.
pub const PROGRAMS_VARIABLE: &str = "TRANSSHIP_LAB_PROGRAMS";

impl LabOptions {
    /// Default settings under that name, with the programs of the folder that [`PROGRAMS_VARIABLE`] names.
    pub fn from_env(name: &str) -> Result<Self> {
        let folder = std::env::var_os(PROGRAMS_VARIABLE).ok_or_else(|| {
            LabError::Usage(format!(
                "{PROGRAMS_VARIABLE} names no folder of programs; `cargo xtask test` sets it"
            ))
        })?;
        Ok(LabOptions::new(name, folder))
    }

    /// Default settings under that name, with the programs of that folder.
    pub fn new(name: &str, programs: impl Into<PathBuf>) -> Self {
        LabOptions {
            name: name.to_owned(),
            link: Link::default(),
            mtu: 1500,
            cgroups: None,
            programs: programs.into(),
            agents: Agents::Running,
            cluster: Cluster::None,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)
    }
}

/// What a lab was made with; on the disk as `lab.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub root: PathBuf,
    pub link: Link,
    pub mtu: u32,
    pub cgroups: CgroupVersion,
    pub programs: PathBuf,
    pub agents: Agents,
    /// The program that is all of Kubernetes, where the nodes are a cluster's.
    pub kubernetes: Option<PathBuf>,
}

impl Settings {
    /// What a fresh lab is made with.
    pub(crate) fn new(
        options: &LabOptions,
        root: &Path,
        kubernetes: Option<PathBuf>,
        cgroups: CgroupVersion,
    ) -> Self {
        Settings {
            root: root.to_owned(),
            link: options.link,
            mtu: options.mtu,
            cgroups,
            programs: options.programs.clone(),
            agents: options.agents,
            kubernetes,
        }
    }

    /// These with what of `options` a running lab can take on. Fails on what it can't.
    pub(crate) fn changed(&self, options: &LabOptions) -> Result<Self> {
        let cgroups = options.cgroups.unwrap_or(self.cgroups);
        let asked = Settings::new(options, &self.root, self.kubernetes.clone(), cgroups);
        let different = |what, is: String, asked: String| {
            Err(LabError::Different { name: options.name.clone(), what, is, asked })
        };
        if self.mtu != asked.mtu {
            return different("MTU", self.mtu.to_string(), asked.mtu.to_string());
        }
        if self.cgroups != asked.cgroups {
            return different("cgroup version", self.cgroups.to_string(), asked.cgroups.to_string());
        }
        let cluster = self.cluster();
        if cluster != options.cluster {
            return different("cluster", cluster.to_string(), options.cluster.to_string());
        }
        Ok(asked)
    }

    fn cluster(&self) -> Cluster {
        self.kubernetes.as_ref().map_or(Cluster::None, |_| Cluster::Kubernetes)
    }

    pub(crate) fn read(folder: &Path, lab: &str) -> Result<Self> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(std::io::Error::from).at("understand", path),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(LabError::NotUp(lab.to_owned())),
            Err(e) => Err(e).at("read", path),
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::from).at("write", &path)?;
        fs::write(&path, json).at("write", path)
    }
}

/// Names are part of cgroups, folders and interfaces.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.len() <= 32 && name.chars().all(good) && !name.starts_with('-') {
        return Ok(());
    }
    Err(LabError::Usage(format!("`{name}` is no name of a lab: up to 32 of a-z, 0-9 and dashes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_lab_takes_another_link_but_no_other_mtu() {
        let options = LabOptions::new("x", "/programs");
        let settings = Settings::new(&options, Path::new("/root-1"), None, CgroupVersion::V1);
        let link = Link { rate: "1gbit".parse().ok(), latency: None };
        let changed = settings.changed(&LabOptions { link, ..options.clone() }).unwrap();
        assert_eq!(changed.link, link);
        assert_eq!(changed.root, Path::new("/root-1"));
        let error = settings.changed(&LabOptions { mtu: 9000, ..options.clone() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "lab `x` is up with MTU 1500, not 9000; `cargo xtask lab down --name x` first"
        );
        let cluster = LabOptions { cluster: Cluster::Kubernetes, ..options.clone() };
        assert!(settings.changed(&cluster).unwrap_err().to_string().contains("is up with cluster none"));
        assert!(settings.changed(&LabOptions { cgroups: Some(CgroupVersion::V2), ..options }).is_err());
    }

    #[test]
    fn names_that_would_leave_the_labs_folder_are_refused() {
        for name in ["", "..", "a/b", "A", "-x", "x y"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("test-v2").is_ok());
    }
}

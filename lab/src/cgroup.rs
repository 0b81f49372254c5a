//! The cgroups of a lab: one folder in every hierarchy of the host, and in it one folder per machine.
//!
//! Each machine has a cgroup namespace, so it takes its own folder for the root of the hierarchy. That keeps
//! two nodes, and two labs, from meeting in one cgroup, and lets everything of a machine be found and ended.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{At, LabError, Result};

/// Which cgroup version the nodes of a lab see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupVersion {
    /// The controllers each in a hierarchy of their own.
    V1,
    /// One hierarchy. On a host whose controllers are all taken by version 1 it has the freezer and nothing
    /// else, so containers run without limits.
    V2,
}

impl FromStr for CgroupVersion {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "v1" => Ok(CgroupVersion::V1),
            "v2" => Ok(CgroupVersion::V2),
            other => Err(LabError::Usage(format!("`{other}` is no cgroup version: v1 or v2"))),
        }
    }
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CgroupVersion::V1 => "v1",
            CgroupVersion::V2 => "v2",
        })
    }
}

/// Where a machine's own processes live, below its cgroup.
const INIT: &str = "init";

/// A cgroup hierarchy as the host has it mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    version: CgroupVersion,
    mount_point: PathBuf,
    /// What mount(8) needs to get the same hierarchy again: its controllers or its name.
    options: String,
}

/// All cgroup hierarchies of the host.
#[derive(Clone, Debug)]
pub struct Cgroups(Vec<Hierarchy>);

impl Cgroups {
    /// Those that are mounted now.
    pub fn of_host() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let found = parse_mountinfo(&fs::read_to_string(path).at("read", path)?);
        if found.is_empty() {
            return Err(LabError::Machine {
                what: "no cgroup hierarchy is mounted".into(),
                mend: "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            });
        }
        Ok(Cgroups(found))
    }

    /// The version that the host's own services use: 1 if any of its controllers is mounted.
    pub fn host_version(&self) -> CgroupVersion {
        let any_v1 = self.0.iter().any(|h| h.version == CgroupVersion::V1);
        if any_v1 { CgroupVersion::V1 } else { CgroupVersion::V2 }
    }

    /// Whether containers can have limits under that version on this host.
    pub(crate) fn have_controllers(&self, version: CgroupVersion) -> Result<bool> {
        let unified = self.0.iter().find(|h| h.version == CgroupVersion::V2);
        match (version, unified) {
            (CgroupVersion::V1, _) => Ok(true),
            (CgroupVersion::V2, None) => Ok(false),
            (CgroupVersion::V2, Some(unified)) => {
                let path = unified.mount_point.join("cgroup.controllers");
                let controllers = fs::read_to_string(&path).at("read", &path)?;
                Ok(["cpu", "memory", "pids"]
                    .iter()
                    .all(|c| controllers.split_whitespace().any(|has| has == *c)))
            }
        }
    }

    /// What a machine mounts below its /sys/fs/cgroup, a `TYPE:OPTIONS:FOLDER` each.
    pub(crate) fn mounts(&self, version: CgroupVersion) -> Result<Vec<String>> {
        let mounts: Vec<_> = self.0.iter().filter(|h| h.version == version).map(Hierarchy::mount).collect();
        if mounts.is_empty() {
            return Err(LabError::Machine {
                what: format!("this host has no cgroup {version}"),
                mend: "leave out --cgroup",
            });
        }
        Ok(mounts)
    }

    /// Makes a cgroup of that path in every hierarchy and returns their folders, for processes to join.
    pub(crate) fn make(&self, path: &Path) -> Result<Vec<PathBuf>> {
        self.0.iter().map(|hierarchy| hierarchy.make(path)).collect()
    }

    /// Moves the first processes of a machine's cgroup, whose namespace has been made by now, one level down:
    /// under version 2 a cgroup that hands controllers on may hold no process itself.
    pub(crate) fn settle(&self, path: &Path) -> Result<()> {
        for hierarchy in self.0.iter().filter(|h| h.version == CgroupVersion::V2) {
            let entrance = hierarchy.make(&path.join(INIT))?.join("cgroup.procs");
            let machine = hierarchy.mount_point.join(path);
            let list = machine.join("cgroup.procs");
            for pid in fs::read_to_string(&list).at("read", &list)?.lines() {
                fs::write(&entrance, pid).at("write", &entrance)?;
            }
            delegate(&machine)?;
        }
        Ok(())
    }

    /// The folders that a process of a settled machine joins.
    pub(crate) fn entrances(&self, path: &Path) -> Vec<PathBuf> {
        let entrance = |h: &Hierarchy| match h.version {
            CgroupVersion::V1 => h.mount_point.join(path),
            CgroupVersion::V2 => h.mount_point.join(path).join(INIT),
        };
        self.0.iter().map(entrance).collect()
    }

    /// Ends all processes below a cgroup, frozen or not, and removes it and all below it.
    pub(crate) fn remove(&self, path: &Path) -> Result<()> {
        let folders: Vec<_> = self.0.iter().flat_map(|h| subtree(&h.mount_point.join(path))).collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        // Killing one process may let another be born, and the dead take a moment to leave: until none is left.
        while kill_once(&folders)? > 0 {
            if Instant::now() > deadline {
                return Err(LabError::Timeout {
                    what: format!("the end of all processes in cgroup {}", path.display()),
                    seconds: 10,
                    detail: String::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for folder in &folders {
            // Cgroups made since the list was made are below one of it.
            for folder in subtree(folder) {
                fs::remove_dir(&folder).at("remove", &folder)?;
            }
        }
        Ok(())
    }
}

impl Hierarchy {
    fn mount(&self) -> String {
        let folder = self.mount_point.file_name().unwrap_or_default().to_string_lossy();
        match self.version {
            CgroupVersion::V1 => format!("cgroup:{}:{folder}", self.options),
            CgroupVersion::V2 => "cgroup2:rw:".to_owned(),
        }
    }

    fn make(&self, path: &Path) -> Result<PathBuf> {
        let mut folder = self.mount_point.clone();
        for part in path {
            let parent = folder.clone();
            folder.push(part);
            if !folder.exists() {
                fs::create_dir(&folder).at("make", &folder)?;
            }
            // A new cpuset has neither CPUs nor memory and takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if self.version == CgroupVersion::V1 && parent.join(file).exists() {
                    let value = fs::read(parent.join(file)).at("read", parent.join(file))?;
                    fs::write(folder.join(file), value).at("write", folder.join(file))?;
                }
            }
            share_real_time(&parent, &folder);
            if self.version == CgroupVersion::V2 {
                delegate(&parent)?;
            }
        }
        Ok(folder)
    }
}

/// On a real node its own services may run in real time. Where each cgroup has time of its own for that (a kernel with
/// CONFIG_RT_GROUP_SCHED), a new one has none. One that can't have it goes without.
fn share_real_time(parent: &Path, folder: &Path) {
    const FILE: &str = "cpu.rt_runtime_us";
    /// So many machines a lab may have, and so many labs a host.
    const SHARES: u32 = 6;
    let whole = fs::read_to_string(parent.join(FILE)).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(whole) = whole
        && fs::read_to_string(folder.join(FILE)).is_ok_and(|text| text.trim() == "0")
    {
        fs::write(folder.join(FILE), (whole / SHARES).to_string()).ok();
    }
}

/// Hands all controllers on to the children. One that can't be (a cgroup with processes of its own in it)
/// stays behind: containers then run without its limits.
fn delegate(folder: &Path) -> Result<()> {
    let path = folder.join("cgroup.controllers");
    for controller in fs::read_to_string(&path).at("read", &path)?.split_whitespace() {
        fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")).ok();
    }
    Ok(())
}

/// Sends SIGKILL to everything in these cgroups and thaws what is frozen, since under version 1 a frozen
/// process dies only when it is thawed. Returns how many processes were there.
fn kill_once(folders: &[PathBuf]) -> Result<usize> {
    let mut killed = 0;
    for folder in folders {
        for file in ["cgroup.procs", "freezer.state", "cgroup.freeze"] {
            let path = folder.join(file);
            match file {
                "cgroup.procs" => killed += kill_processes(&path)?,
                "freezer.state" if path.exists() => fs::write(&path, "THAWED").at("write", &path)?,
                "cgroup.freeze" if path.exists() => fs::write(&path, "0").at("write", &path)?,
                _ => {}
            }
        }
    }
    Ok(killed)
}

fn kill_processes(path: &Path) -> Result<usize> {
    let list = match fs::read_to_string(path) {
        Ok(list) => list,
        // The cgroup is gone, and with it all its processes.
        Err(e) if matches!(e.raw_os_error(), Some(2 | 19)) => return Ok(0),
        Err(e) => return Err(e).at("read", path),
    };
    let mut killed = 0;
    for pid in list.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        // One that is gone already needs no signal.
        kill_process(pid, Signal::KILL).ok();
        killed += 1;
    }
    Ok(killed)
}

/// A cgroup and all below it, the deepest first. Empty when it isn't there.
fn subtree(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return vec![] };
    let children = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    let mut all: Vec<_> = children.flat_map(|child| subtree(&child.path())).collect();
    all.push(folder.to_owned());
    all
}

/// The cgroup lines of proc_pid_mountinfo(5). The first mount of a hierarchy counts.
fn parse_mountinfo(text: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = vec![];
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount_point) = before.split(' ').nth(4) else { continue };
        let mut fields = after.split(' ');
        let version = match fields.next() {
            Some("cgroup") => CgroupVersion::V1,
            Some("cgroup2") => CgroupVersion::V2,
            _ => continue,
        };
        let options = match version {
            CgroupVersion::V1 => v1_options(fields.nth(1).unwrap_or_default()),
            CgroupVersion::V2 => String::new(),
        };
        if !found.iter().any(|h| h.version == version && h.options == options) {
            found.push(Hierarchy { version, mount_point: mount_point.into(), options });
        }
    }
    found
}

/// Of a v1 hierarchy's options those that tell which one it is.
fn v1_options(options: &str) -> String {
    let which = options.split(',').filter(|option| {
        let general = ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode"];
        !general.contains(option) && !option.starts_with("release_agent=")
    });
    let which = which.collect::<Vec<_>>().join(",");
    if which.starts_with("name=") { format!("none,{which}") } else { which }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_with_what_it_takes_to_mount_them_again() {
        let text = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd\n\
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
99 31 0:38 / /somewhere/else rw,relatime - cgroup2 cgroup2 rw\n";
        let cgroups = Cgroups(parse_mountinfo(text));
        assert_eq!(cgroups.host_version(), CgroupVersion::V1);
        let v1 = cgroups.mounts(CgroupVersion::V1).unwrap();
        assert_eq!(v1, ["cgroup:cpu,cpuacct:cpu,cpuacct", "cgroup:none,name=systemd:systemd"]);
        assert_eq!(cgroups.mounts(CgroupVersion::V2).unwrap(), ["cgroup2:rw:"]);
    }

    #[test]
    fn a_host_with_one_hierarchy_has_version_2_only() {
        let text = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let cgroups = Cgroups(parse_mountinfo(text));
        assert_eq!(cgroups.host_version(), CgroupVersion::V2);
        assert!(cgroups.mounts(CgroupVersion::V1).is_err());
    }
}

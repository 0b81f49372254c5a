//! What tasks will be able to do once CRIU restores them from their images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::caps::CapSet;
use super::claim::{
    Capabilities, Claim, Label, Mount, Namespace, Origin, Restrictions, Seccomp, Task, Whose,
};
use super::limits::{Limits, Resource};
use super::seccomp::Program;
use crate::image::proto::{self, Core, Creds, Inventory, PstreeEntry, SeccompFilter, TaskCore, TaskIds};
use crate::image::{self, ImageError};

/// Image format 1.1 (`CRTOOLS_IMAGES_V1_1`): since 2014 there is no other.
const FORMAT: u32 = 2;
/// `COMPEL_TASK_DEAD` (`compel/uapi/task-state.h`): a zombie, which does nothing any more.
const DEAD: u32 = 2;
/// `SECCOMP_FILTER_FLAG_TSYNC`: the filter is put on all threads of the process.
const ALL_THREADS: u32 = 1;

/// Why the images don't tell what tasks may do.
#[derive(Debug, Error)]
pub enum ImageClaimError {
    /// An image is missing, can't be read or is malformed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The images are of a format that this version of transship doesn't know.
    #[error("the images have format {0}; {FORMAT} is known here")]
    Format(u32),
    /// Something that decides what a task may do isn't there.
    #[error("core-{task}.img lacks {what}: CRIU would decide on its own what the task may do")]
    Lacks {
        /// The task.
        task: u32,
        /// What is missing.
        what: &'static str,
    },
    /// A number refers to nothing, or filters to each other without end.
    #[error("core-{task}.img refers to seccomp filter {filter}, which isn't there or is one too many")]
    Filter {
        /// The task.
        task: u32,
        /// The filter's index.
        filter: u32,
    },
    /// A filter isn't a classic BPF program.
    #[error("seccomp.img: filter {0} is no program that the kernel would take")]
    Program(usize),
    /// A value that no CRIU writes.
    #[error("core-{task}.img: {what}")]
    Value {
        /// The task.
        task: u32,
        /// What is wrong.
        what: &'static str,
    },
}

/// Reads what all tasks in the images' directory will be able to do.
pub fn claims_of_images(dir: &Path) -> Result<Vec<Claim>, ImageClaimError> {
    let inventory: Inventory = image::read_one(dir, "inventory.img")?;
    if inventory.img_version != FORMAT {
        return Err(ImageClaimError::Format(inventory.img_version));
    }
    let node = inventory.root_ids.unwrap_or_default();
    let mut reader = Reader { dir, filters: None, mounts: BTreeMap::new() };
    let mut claims = Vec::new();
    for task in image::read::<PstreeEntry>(dir, "pstree.img")? {
        let core: Core = image::read_one(dir, &format!("core-{}.img", task.pid))?;
        let lacks = |what| ImageClaimError::Lacks { task: task.pid, what };
        let process = core.tc.as_ref().ok_or_else(|| lacks("its process's part"))?;
        if process.task_state == DEAD {
            continue;
        }
        let limits = limits(task.pid, process)?;
        let ids: TaskIds = image::read_one(dir, &format!("ids-{}.img", task.pid))?;
        let namespaces = namespaces(&ids, &node);
        // CRIU has no list of the mounts of the node's namespace; that the task would be there is told as it is.
        let mounts = match ids.mnt_ns_id {
            Some(id) if node.mnt_ns_id != Some(id) => reader.mounts(id)?,
            _ => Arc::default(),
        };
        let common = Common { process, limits, mounts, namespaces };
        let leader = reader.claim(task.pid, &core, &common, Seccomp::Off)?;
        let on_all_threads = reader.seccomp_on_all_threads(&leader);
        claims.push(leader);
        for &thread in task.threads.iter().filter(|thread| **thread != task.pid) {
            let core: Core = image::read_one(dir, &format!("core-{thread}.img"))?;
            claims.push(reader.claim(thread, &core, &common, on_all_threads.clone())?);
        }
    }
    Ok(claims)
}

/// What the threads of a process have in common.
struct Common<'a> {
    process: &'a TaskCore,
    limits: Limits,
    mounts: Arc<[Mount]>,
    namespaces: Vec<(Namespace, Whose)>,
}

/// The most filters that one task may have. The kernel takes thousands, programs that sandbox themselves put on a few.
const MAX_FILTERS: usize = 64;

/// A filter in `seccomp.img`.
struct Filter {
    program: Arc<Program>,
    previous: Option<u32>,
    on_all_threads: bool,
}

struct Reader<'a> {
    dir: &'a Path,
    filters: Option<Vec<Filter>>,
    mounts: BTreeMap<u32, Arc<[Mount]>>,
}

impl Reader<'_> {
    fn claim(
        &mut self,
        id: u32,
        core: &Core,
        common: &Common<'_>,
        without_a_mode: Seccomp,
    ) -> Result<Claim, ImageClaimError> {
        let process = common.process;
        let thread =
            core.thread_core.as_ref().ok_or(ImageClaimError::Lacks { task: id, what: "its thread" })?;
        let creds =
            thread.creds.as_ref().ok_or(ImageClaimError::Lacks { task: id, what: "its credentials" })?;
        // The mode stood in the process's part before CRIU 3.
        let mode = thread.seccomp_mode.or(process.old_seccomp_mode).unwrap_or(0);
        let seccomp = match mode {
            0 => without_a_mode,
            1 => Seccomp::Strict,
            2 => {
                let last = thread.seccomp_filter.or(process.old_seccomp_filter).unwrap_or(0);
                let programs = self.programs(id, last)?;
                Seccomp::Filter { count: programs.len(), programs }
            }
            _ => return Err(ImageClaimError::Value { task: id, what: "a seccomp mode that isn't one" }),
        };
        Ok(Claim {
            task: Task { id, name: thread.comm.clone().unwrap_or_else(|| process.comm.clone()) },
            users: [creds.uid, creds.euid, creds.suid, creds.fsuid],
            primary_groups: [creds.gid, creds.egid, creds.sgid, creds.fsgid],
            groups: creds.groups.clone(),
            capabilities: capabilities(id, creds)?,
            no_new_privileges: creds.no_new_privs.unwrap_or(0) != 0,
            seccomp,
            limits: common.limits.clone(),
            oom_score_adj: process.oom_score_adj,
            mounts: Arc::clone(&common.mounts),
            cgroups: Vec::new(),
            namespaces: common.namespaces.clone(),
            label: Label::Untold,
        })
    }

    /// What a thread without a mode of its own gets: CRIU dumps filters that all threads have in common with the
    /// process's first thread alone, and has the kernel put them on all.
    fn seccomp_on_all_threads(&self, leader: &Claim) -> Seccomp {
        let on_all = |program: &Arc<Program>| {
            let filters = self.filters.iter().flatten();
            filters.filter(|filter| filter.on_all_threads).any(|filter| Arc::ptr_eq(&filter.program, program))
        };
        match &leader.seccomp {
            Seccomp::Filter { programs, .. } if programs.iter().all(on_all) => leader.seccomp.clone(),
            _ => Seccomp::Off,
        }
    }

    /// The chain of filters from the newest, `last`, to the oldest.
    fn programs(&mut self, task: u32, last: u32) -> Result<Vec<Arc<Program>>, ImageClaimError> {
        let filters = match &mut self.filters {
            Some(filters) => filters,
            none => none.insert(read_filters(self.dir)?),
        };
        let mut programs = Vec::new();
        let mut next = Some(last);
        while let Some(filter) = next {
            let Filter { program, previous, .. } = filters
                .get(filter as usize)
                .filter(|_| programs.len() < MAX_FILTERS)
                .ok_or(ImageClaimError::Filter { task, filter })?;
            programs.push(Arc::clone(program));
            next = *previous;
        }
        Ok(programs)
    }

    fn mounts(&mut self, namespace: u32) -> Result<Arc<[Mount]>, ImageClaimError> {
        if let Some(known) = self.mounts.get(&namespace) {
            return Ok(Arc::clone(known));
        }
        let entries = image::read::<proto::Mount>(self.dir, &format!("mountpoints-{namespace}.img"))?;
        let mounts: Arc<[Mount]> = entries.into_iter().map(mount).collect();
        self.mounts.insert(namespace, Arc::clone(&mounts));
        Ok(mounts)
    }
}

fn read_filters(dir: &Path) -> Result<Vec<Filter>, ImageClaimError> {
    let seccomp: proto::Seccomp = image::read_one(dir, "seccomp.img")?;
    let filter = |(index, filter): (usize, &SeccompFilter)| {
        let program = Program::decode(&filter.filter).ok_or(ImageClaimError::Program(index))?;
        Ok(Filter {
            program: Arc::new(program),
            previous: filter.prev,
            on_all_threads: filter.flags.unwrap_or(0) & ALL_THREADS != 0,
        })
    };
    seccomp.seccomp_filters.iter().enumerate().map(filter).collect()
}

/// Whose namespaces the task will be in: CRIU keeps those in which it runs itself where the ids are its own, and where
/// there is none.
fn namespaces(task: &TaskIds, node: &TaskIds) -> Vec<(Namespace, Whose)> {
    let whose = |task: Option<u32>, node: Option<u32>| {
        if task.is_none() || task == node { Whose::Node } else { Whose::Another }
    };
    vec![
        (Namespace::Cgroup, whose(task.cgroup_ns_id, node.cgroup_ns_id)),
        (Namespace::Ipc, whose(task.ipc_ns_id, node.ipc_ns_id)),
        (Namespace::Mount, whose(task.mnt_ns_id, node.mnt_ns_id)),
        (Namespace::Network, whose(task.net_ns_id, node.net_ns_id)),
        (Namespace::Pid, whose(task.pid_ns_id, node.pid_ns_id)),
        (Namespace::User, whose(task.user_ns_id, node.user_ns_id)),
        (Namespace::Uts, whose(task.uts_ns_id, node.uts_ns_id)),
    ]
}

fn limits(task: u32, process: &TaskCore) -> Result<Limits, ImageClaimError> {
    let lacks = ImageClaimError::Lacks { task, what: "its limits" };
    let entries = &process.rlimits.as_ref().ok_or(lacks)?.rlimits;
    if entries.len() > Resource::all().count() {
        return Err(ImageClaimError::Value { task, what: "more limits than there are resources" });
    }
    let mut limits = Limits::default();
    for (resource, entry) in Resource::all().zip(entries) {
        limits.set(resource, entry.max);
    }
    Ok(limits)
}

fn capabilities(task: u32, creds: &Creds) -> Result<Capabilities, ImageClaimError> {
    let set = |words: &[u32]| match words {
        [] => Ok(CapSet::EMPTY),
        [low] => Ok(CapSet::from_bits(u64::from(*low))),
        [low, high] => Ok(CapSet::from_bits(u64::from(*low) | u64::from(*high) << 32)),
        _ => Err(ImageClaimError::Value { task, what: "a capability set of more than 64 bits" }),
    };
    Ok(Capabilities {
        inheritable: set(&creds.cap_inh)?,
        permitted: set(&creds.cap_prm)?,
        effective: set(&creds.cap_eff)?,
        bounding: set(&creds.cap_bnd)?,
        ambient: set(&creds.cap_amb)?,
    })
}

fn mount(entry: proto::Mount) -> Mount {
    // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC of linux/mount.h.
    let flags = entry.flags;
    let restrictions = Restrictions {
        read_only: (flags | entry.sb_flags.unwrap_or(0)) & 1 != 0,
        nosuid: flags & 2 != 0,
        nodev: flags & 4 != 0,
        noexec: flags & 8 != 0,
    };
    let at = Path::new("/").join(entry.mountpoint.trim_start_matches('/'));
    let origin = match entry.ext_key {
        Some(key) => Origin::External(key),
        // As CRIU before 2.0 wrote it, and still reads it.
        None if entry.ext_mount == Some(true) => Origin::External(entry.root),
        None => Origin::Made,
    };
    Mount { at: clean(&at), kind: kind(entry.fstype, entry.fsname), restrictions, origin }
}

/// The path without `.` and doubled slashes. One with `..` stays what it is, and so is granted by nothing.
fn clean(path: &Path) -> PathBuf {
    path.components().collect()
}

/// CRIU's numbers for file-system types (`enum fstype` of mnt.proto), those that a bundle may ask for.
fn kind(number: u32, name: Option<String>) -> String {
    let known = match number {
        1 => "proc",
        2 => "sysfs",
        3 => "devtmpfs",
        5 => "tmpfs",
        6 => "devpts",
        12 => "cgroup",
        14 => "mqueue",
        17 => "overlay",
        23 => "cgroup2",
        other => return name.unwrap_or_else(|| format!("file system type {other} of CRIU")),
    };
    known.to_owned()
}

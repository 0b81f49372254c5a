//! What a task may do, whoever tells it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::caps::CapSet;
use super::limits::Limits;
use super::seccomp::Program;

/// What one task (a thread; its process's first one stands for the process) may do.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose claim it is.
    pub task: Task,
    /// Real, effective, saved and file-system user id.
    pub users: [u32; 4],
    /// Real, effective, saved and file-system group id.
    pub primary_groups: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Its capability sets.
    pub capabilities: Capabilities,
    /// Whether `execve` can't give it more than it has.
    pub no_new_privileges: bool,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Its process's hard limits.
    pub limits: Limits,
    /// How much less readily the kernel kills it for memory; none where that isn't told.
    pub oom_score_adj: Option<i32>,
    /// All mounts of its mount namespace; shared between tasks of the same.
    pub mounts: Arc<[Mount]>,
    /// Where it is in each cgroup hierarchy. Images don't tell: a restore puts tasks where the bundle says.
    pub cgroups: Vec<Membership>,
    /// Its namespaces.
    pub namespaces: Vec<(Namespace, Whose)>,
    /// Its security label. Images don't tell: a restore takes the bundle's.
    pub label: Label,
}

/// Which task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Thread id: in `/proc` the node's, in images the container's.
    pub id: u32,
    /// Its command's name.
    pub name: String,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} ({})", self.id, self.name)
    }
}

/// The capability sets of a task (capabilities(7)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// Kept over `execve` of a file that asks for them.
    pub inheritable: CapSet,
    /// What it may make effective.
    pub permitted: CapSet,
    /// What counts now.
    pub effective: CapSet,
    /// What it can ever get.
    pub bounding: CapSet,
    /// Kept over `execve` of any file.
    pub ambient: CapSet,
}

/// A task's seccomp mode, with its filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Every system call.
    Off,
    /// `read`, `write`, `exit` and `sigreturn` alone.
    Strict,
    /// What all filters allow; how many there are is known, what they say only where the images tell.
    Filter {
        /// How many.
        count: usize,
        /// The programs, the newest first; empty where they aren't told.
        programs: Vec<Arc<Program>>,
    },
}

/// A mount of a task's mount namespace.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where, as the task sees it.
    pub at: PathBuf,
    /// Its file system's type.
    pub kind: String,
    /// What isn't allowed on it.
    pub restrictions: Restrictions,
    /// Whence it comes.
    pub origin: Origin,
}

/// What isn't allowed on a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Nothing may be changed.
    pub read_only: bool,
    /// Set-user-id files don't count.
    pub nosuid: bool,
    /// Device nodes don't count.
    pub nodev: bool,
    /// Nothing may be executed.
    pub noexec: bool,
}

/// Whence a mount comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Images: the runtime binds what the bundle has under this key.
    External(String),
    /// Images: CRIU makes it.
    Made,
    /// `/proc`: this is what one sees there.
    Seen {
        /// The file or directory.
        file: FileId,
        /// Whether that is the null device.
        null: bool,
    },
    /// `/proc`: something else is mounted over it.
    Covered,
}

/// A file's identity on this node, while it is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// The device, as (major, minor).
    pub device: (u32, u32),
    /// The inode.
    pub inode: u64,
}

/// A task's place in one cgroup hierarchy: a line of `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The controllers or the name of a v1 hierarchy, empty for v2.
    pub hierarchy: String,
    /// The path from the hierarchy's root.
    pub path: String,
}

/// A security label (AppArmor profile or SELinux context).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// It isn't known.
    Untold,
    /// No security module gives one.
    None,
    /// This one.
    Is(String),
}

/// Whose namespace a task is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// `/proc`: this one.
    This(FileId),
    /// Images: the one in which the restore runs.
    Node,
    /// Images: one that the restore makes or is given.
    Another,
}

/// A kind of namespace that a bundle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// Control groups.
    Cgroup,
    /// System V IPC and message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network.
    Network,
    /// Process ids.
    Pid,
    /// User ids.
    User,
    /// Host name.
    Uts,
}

impl Namespace {
    /// All kinds with their names in a bundle and in `/proc/PID/ns`. A time namespace isn't among them: CRIU gives
    /// every restored task one, to keep its clocks.
    pub(super) const ALL: [(Self, &str, &str); 7] = [
        (Self::Cgroup, "cgroup", "cgroup"),
        (Self::Ipc, "ipc", "ipc"),
        (Self::Mount, "mount", "mnt"),
        (Self::Network, "network", "net"),
        (Self::Pid, "pid", "pid"),
        (Self::User, "user", "user"),
        (Self::Uts, "uts", "uts"),
    ];
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find_map(|(kind, name, _)| (kind == self).then_some(*name));
        f.write_str(name.unwrap_or("unknown"))
    }
}

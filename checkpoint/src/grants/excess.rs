//! What is more than a bundle grants, told so that a person knows what to look at.

use std::fmt;
use std::path::PathBuf;

use super::caps::CapSet;
use super::claim::{Label, Namespace, Task};
use super::limits::{Resource, UNLIMITED};

/// Something that a task may do, or would be able to do, and that its container's bundle doesn't grant.
///
/// Displays as one sentence: the task, what it has, what the bundle grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// Which task; of a mount, the first that has it.
    pub task: Task,
    /// What it has.
    pub what: Beyond,
}

/// What a task has beyond what is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Capabilities in one of its sets.
    Capabilities {
        /// Which set: `permitted`, …
        set: &'static str,
        /// Those that are too many.
        beyond: CapSet,
    },
    /// It could gain privileges by `execve`.
    NewPrivileges,
    /// It has no seccomp filter though the bundle has a profile.
    NoSeccomp,
    /// Its filters let calls through that the profile doesn't.
    SystemCalls(Vec<String>),
    /// It is another user.
    User {
        /// Who it is.
        has: u32,
        /// Who it may be.
        granted: u32,
    },
    /// It is in another group, as its own or a supplementary one.
    Group {
        /// Which.
        has: u32,
    },
    /// A hard limit is too high.
    Limit {
        /// Of what.
        resource: Resource,
        /// How high.
        has: u64,
        /// How high it may be.
        granted: u64,
    },
    /// Others are killed for memory before it.
    OomScoreAdj {
        /// What it has.
        has: i32,
        /// The least that it may have.
        granted: i32,
    },
    /// A mount that isn't in the bundle.
    Mount {
        /// Where.
        at: PathBuf,
        /// The file system's type.
        kind: String,
    },
    /// A mount that the bundle has, of something else.
    MountOfOther {
        /// Where.
        at: PathBuf,
        /// What the bundle has there.
        granted: String,
    },
    /// A mount that the bundle has, with fewer restrictions.
    MountFlags {
        /// Where.
        at: PathBuf,
        /// The restrictions that are missing: `ro`, `nosuid`, …
        missing: Vec<&'static str>,
    },
    /// A path that ought to show nothing.
    Unmasked(PathBuf),
    /// A path that ought not to be changed.
    Writable(PathBuf),
    /// It isn't in the container's cgroup.
    Cgroup {
        /// The hierarchy's controllers or name, empty for v2.
        hierarchy: String,
        /// Where it is.
        has: String,
        /// Where it ought to be.
        granted: String,
    },
    /// It isn't in the namespace that the bundle names, or is in the node's though the bundle has one of its own.
    Namespace(Namespace),
    /// It has another security label.
    Label {
        /// Which.
        has: Label,
        /// Which it ought to have.
        granted: String,
    },
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.task)?;
        match &self.what {
            Beyond::Capabilities { set, beyond } => {
                write!(f, "has {beyond} in its {set} set, which the bundle doesn't grant")
            }
            Beyond::NewPrivileges => {
                f.write_str("may gain privileges by execve, which the bundle forbids (noNewPrivileges)")
            }
            Beyond::NoSeccomp => f.write_str("has no seccomp filter, the bundle asks for one"),
            Beyond::SystemCalls(names) => {
                write!(f, "may make system calls that the bundle's seccomp profile denies: ")?;
                let shown = names.len().min(8);
                f.write_str(&names[..shown].join(", "))?;
                if shown < names.len() { write!(f, " and {} more", names.len() - shown) } else { Ok(()) }
            }
            Beyond::User { has, granted } => {
                write!(f, "has the user id {has}, the bundle grants {granted} and no CAP_SETUID")
            }
            Beyond::Group { has } => {
                write!(f, "is in the group {has}, which the bundle doesn't grant, nor CAP_SETGID")
            }
            Beyond::Limit { resource, has, granted } => {
                write!(f, "has a hard {resource} of {}, {} is granted", Limit(*has), Limit(*granted))
            }
            Beyond::OomScoreAdj { has, granted } => {
                write!(f, "has an oom_score_adj of {has}, not less than {granted} is granted")
            }
            Beyond::Mount { at, kind } => {
                write!(f, "has a {kind} mounted at {}, which the bundle doesn't grant", at.display())
            }
            Beyond::MountOfOther { at, granted } => {
                write!(
                    f,
                    "has something else mounted at {} than {granted}, which the bundle grants",
                    at.display()
                )
            }
            Beyond::MountFlags { at, missing } => {
                write!(f, "has {} mounted without {}", at.display(), missing.join(","))?;
                f.write_str(", which the bundle asks for")
            }
            Beyond::Unmasked(path) => {
                write!(f, "can look into {}, which the bundle masks", path.display())
            }
            Beyond::Writable(path) => {
                write!(f, "can write to {}, which the bundle makes read-only", path.display())
            }
            Beyond::Cgroup { hierarchy, has, granted } => {
                let hierarchy = if hierarchy.is_empty() { "v2" } else { hierarchy };
                write!(f, "is in the cgroup {has} of {hierarchy}, the bundle grants {granted}")
            }
            Beyond::Namespace(kind) => {
                write!(f, "isn't in the {kind} namespace that the bundle gives it")
            }
            Beyond::Label { has, granted } => {
                let has = if let Label::Is(label) = has { label } else { "none" };
                write!(f, "has the security label {has}, the bundle grants {granted}")
            }
        }
    }
}

struct Limit(u64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == UNLIMITED { f.write_str("unlimited") } else { self.0.fmt(f) }
    }
}

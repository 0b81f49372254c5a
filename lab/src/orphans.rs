//! Processes that were started inside a machine from outside of it, and whose starter was killed.
//!
//! They fall to whoever adopts orphans out here. Until they are reaped their machine's PID namespace can't end, and
//! where PID 1 doesn't reap, as in a bare container, nobody would.

use std::fs;

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use crate::error::{At, Result};

/// From now on this process adopts what is orphaned by those that it starts.
pub fn adopt() -> Result<()> {
    set_child_subreaper(Some(getpid())).at("adopt orphans as", "/proc/self")
}

/// Reaps the orphans from inside of machines that have ended.
pub fn reap() {
    let own = getpid().as_raw_nonzero().get().to_string();
    let Some(own_depth) = Status::read("self").map(|status| status.depth) else { return };
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.parse().ok().and_then(Pid::from_raw) else { continue };
        // Its own children live out here, where it waits for them itself.
        let orphan = Status::read(&name)
            .is_some_and(|status| status.zombie && status.parent == own && status.depth > own_depth);
        if orphan {
            // Gone already is as good.
            waitpid(Some(pid), WaitOptions::NOHANG).ok();
        }
    }
}

/// Of proc_pid_status(5).
struct Status {
    zombie: bool,
    parent: String,
    /// How many PID namespaces it is in, seen from here.
    depth: usize,
}

impl Status {
    fn read(pid: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Some(Status {
            zombie: field("State")?.starts_with('Z'),
            parent: field("PPid")?.to_owned(),
            depth: field("NSpid")?.split_whitespace().count(),
        })
    }
}

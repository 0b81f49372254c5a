//! Who this process is and what it may do.

use rustix::thread::CapabilitySet;

use super::Finding;

/// Without these CRIU can neither dump nor restore, and no freezer is written and no mount made.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::NET_ADMIN);

/// Files of all owners are read and made.
pub fn root() -> Finding {
    const NAME: &str = "root";
    if rustix::process::geteuid().is_root() {
        Finding::ok(NAME, "runs as root")
    } else {
        Finding::fail(NAME, "runs as another user, so that what follows says less", "run it as root")
    }
}

/// What CRIU and the agent can't do without.
pub fn needed() -> Finding {
    const NAME: &str = "capabilities";
    match effective() {
        Ok(held) => judge_needed(held),
        Err(error) => unreadable(NAME, &error),
    }
}

/// What CRIU needs to put back limits that it may not raise otherwise.
pub fn sys_resource() -> Finding {
    const NAME: &str = "CAP_SYS_RESOURCE";
    match effective() {
        Ok(held) => judge_sys_resource(held),
        Err(error) => unreadable(NAME, &error),
    }
}

/// The capabilities in force for this process.
pub fn effective() -> rustix::io::Result<CapabilitySet> {
    rustix::thread::capabilities(None).map(|sets| sets.effective)
}

fn judge_needed(held: CapabilitySet) -> Finding {
    const NAME: &str = "capabilities";
    let missing = NEEDED.difference(held);
    if missing.is_empty() {
        return Finding::ok(NAME, names(NEEDED));
    }
    let mend = "give the agent a service or container that doesn't drop them";
    Finding::fail(NAME, format!("missing: {}", names(missing)), mend)
}

fn judge_sys_resource(held: CapabilitySet) -> Finding {
    const NAME: &str = "CAP_SYS_RESOURCE";
    if held.contains(CapabilitySet::SYS_RESOURCE) {
        return Finding::ok(NAME, "held");
    }
    Finding::warn(
        NAME,
        "missing: containers whose processes aren't root can't be dumped. Every log of CRIU's has a line `rlimit: Can't \
         setup RLIMIT_NOFILE`, which does no harm and is never the cause of anything",
        "give the capability to the agent and to containerd",
    )
}

fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    names.join(", ")
}

fn unreadable(name: &'static str, error: &rustix::io::Errno) -> Finding {
    Finding::fail(name, format!("can't be read: {error}"), "run it where the system call capget is allowed")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let finding = judge_needed(NEEDED.difference(CapabilitySet::SYS_PTRACE));
        assert_eq!((finding.status, finding.detail.as_str()), (Status::Fail, "missing: CAP_SYS_PTRACE"));
        assert_eq!(judge_needed(CapabilitySet::all()).status, Status::Ok);
    }

    #[test]
    fn a_host_without_sys_resource_can_still_do_much() {
        let finding = judge_sys_resource(NEEDED);
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.detail.contains("RLIMIT_NOFILE"));
        assert_eq!(judge_sys_resource(CapabilitySet::all()).status, Status::Ok);
    }
}

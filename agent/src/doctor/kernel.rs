//! What the kernel can do.

use std::fs;
use std::path::Path;

use procfs::sys::kernel::Version;

use super::Finding;

/// `cgroup.kill`, by which a retired source ends without running on, is of Linux 5.14.
const OLDEST: (u8, u8) = (5, 14);
/// The ioctl PAGEMAP_SCAN is of Linux 6.7.
const PAGEMAP_SCAN: (u8, u8) = (6, 7);

/// Old enough to be known, new enough to work.
pub fn version() -> Finding {
    const NAME: &str = "kernel";
    match Version::current() {
        Ok(version) => judge_version(version),
        Err(error) => {
            Finding::warn(NAME, format!("its version can't be read: {error}"), "use Linux 5.14 or later")
        }
    }
}

fn judge_version(version: Version) -> Finding {
    const NAME: &str = "kernel";
    let detail = format!("Linux {}.{}.{}", version.major, version.minor, version.patch);
    if (version.major, version.minor) < OLDEST {
        return Finding::fail(NAME, detail, "use Linux 5.14 or later");
    }
    Finding::ok(NAME, detail)
}

/// In a time namespace of its own, a restored process finds its monotonic clock where it left it.
pub fn time_namespaces() -> Finding {
    const NAME: &str = "time namespaces";
    if Path::new("/proc/self/ns/time").exists() {
        return Finding::ok(NAME, "clocks don't jump in a migration");
    }
    let mend = "use a kernel with CONFIG_TIME_NS";
    Finding::warn(NAME, "none: monotonic clocks jump to those of the target", mend)
}

/// How written memory can be found while it is being written. For information: this version dumps it whole.
pub fn memory_tracking() -> Finding {
    // Mappings bear the flag `sd` where the kernel is built with CONFIG_MEM_SOFT_DIRTY (proc_pid_smaps(5)).
    let soft_dirty = fs::read_to_string("/proc/self/smaps").is_ok_and(|smaps| has_soft_dirty(&smaps));
    let userfaultfd = Path::new("/proc/sys/vm/unprivileged_userfaultfd").exists();
    let scan = Version::current().is_ok_and(|version| (version.major, version.minor) >= PAGEMAP_SCAN);
    let features = [("userfaultfd", userfaultfd), ("PAGEMAP_SCAN", scan), ("soft-dirty", soft_dirty)];
    let said: Vec<_> =
        features.map(|(name, here)| format!("{name} {}", if here { "yes" } else { "no" })).into();
    Finding::ok("memory tracking", format!("{} (not used yet)", said.join(", ")))
}

fn has_soft_dirty(smaps: &str) -> bool {
    smaps
        .lines()
        .filter_map(|line| line.strip_prefix("VmFlags:"))
        .any(|flags| flags.split_whitespace().any(|f| f == "sd"))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn old_kernels_are_refused() {
        for (major, minor, status) in
            [(4, 19, Status::Fail), (5, 13, Status::Fail), (5, 14, Status::Ok), (6, 1, Status::Ok)]
        {
            assert_eq!(judge_version(Version::new(major, minor, 0)).status, status, "{major}.{minor}");
        }
    }

    #[test]
    fn soft_dirty_shows_in_the_flags_of_a_mapping() {
        let without = "7f00-7f10 rw-p 0 00:00 0\nRss: 4 kB\nVmFlags: rd wr mr mw me ac\n";
        let with = "7f00-7f10 rw-p 0 00:00 0\nRss: 4 kB\nVmFlags: rd wr mr mw me ac sd\n";
        assert!(!has_soft_dirty(without));
        assert!(has_soft_dirty(with));
    }
}

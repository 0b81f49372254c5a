//! The freezer.

use std::path::Path;

use procfs::process::{MountInfo, Process};

use super::Finding;

const NAME: &str = "freezer";

/// A cgroup freezer that can be written.
pub fn freezer() -> Finding {
    match Process::myself().and_then(|process| process.mountinfo()) {
        Ok(mounts) => judge(&mounts.0),
        Err(error) => Finding::fail(NAME, format!("the mounts can't be read: {error}"), "mount /proc"),
    }
}

fn judge(mounts: &[MountInfo]) -> Finding {
    let unified = mounts
        .iter()
        .rfind(|mount| mount.fs_type == "cgroup2" && mount.mount_point == Path::new("/sys/fs/cgroup"));
    let legacy =
        mounts.iter().rfind(|mount| mount.fs_type == "cgroup" && mount.super_options.contains_key("freezer"));
    let (version, mount) = match (unified, legacy) {
        (Some(mount), _) => (2, mount),
        (None, Some(mount)) => (1, mount),
        (None, None) => {
            let mend = "mount cgroup2 at /sys/fs/cgroup, or the v1 controller freezer";
            return Finding::fail(NAME, "no cgroup hierarchy with a freezer is mounted", mend);
        }
    };
    let detail = format!("cgroup v{version}, {}", mount.mount_point.display());
    if mount.mount_options.contains_key("ro") {
        return Finding::fail(
            NAME,
            format!("{detail}, read-only"),
            "mount it writable, and in the host's namespace",
        );
    }
    Finding::ok(NAME, detail)
}

#[cfg(test)]
mod tests {
    use procfs::FromBufRead;
    use procfs::process::MountInfos;

    use super::super::Status;
    use super::*;

    const V1: &str = "30 29 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      36 30 0:32 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n\
                      40 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const V2: &str = "30 29 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn finding(mountinfo: &str) -> Finding {
        judge(&MountInfos::from_buf_read(mountinfo.as_bytes()).unwrap().0)
    }

    #[test]
    fn both_versions_are_told_apart() {
        assert_eq!(finding(V1), Finding::ok(NAME, "cgroup v1, /sys/fs/cgroup/freezer"));
        assert_eq!(finding(V2), Finding::ok(NAME, "cgroup v2, /sys/fs/cgroup"));
    }

    #[test]
    fn a_freezer_that_is_missing_or_read_only_is_none() {
        assert_eq!(finding(&V1.replace("freezer", "pids")).status, Status::Fail);
        assert_eq!(finding(&V2.replace("rw,nosuid", "ro,nosuid")).status, Status::Fail);
    }
}

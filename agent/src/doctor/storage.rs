//! Where the state and the sockets lie.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Finding;

// Source: linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
const OVERLAY_MAGIC: i64 = 0x794c_7630;

/// The state outlives a reboot, and a decision can be made there: `link()` never replaces, and `fsync()` works.
pub fn state(folder: &Path) -> Finding {
    const NAME: &str = "state folder";
    let place = nearest_existing(folder);
    let where_to = "use a folder on a local disk (--state)";
    let detail = folder.display();
    match file_system(&place) {
        Err(error) => return Finding::fail(NAME, format!("{detail} can't be looked at: {error}"), where_to),
        Ok(TMPFS_MAGIC | RAMFS_MAGIC) => {
            return Finding::fail(
                NAME,
                format!("{detail} is in memory: a reboot would forget decisions"),
                where_to,
            );
        }
        Ok(OVERLAY_MAGIC) => {
            let mend = "mount a folder of the host there, and use it with --state";
            return Finding::warn(
                NAME,
                format!("{detail} is in a container's own layer, which ends with it"),
                mend,
            );
        }
        Ok(_) => {}
    }
    match try_link(&place) {
        Ok(()) => Finding::ok(NAME, format!("{detail}, on a disk, keeps decisions")),
        Err(error) => Finding::fail(NAME, format!("{detail} can't keep decisions: {error}"), where_to),
    }
}

/// Sockets and marks vanish with a reboot, as what they speak of does.
pub fn run(folder: &Path) -> Finding {
    const NAME: &str = "run folder";
    let detail = folder.display();
    let mend = "use a folder below /run, or mount a tmpfs (--run)";
    match file_system(&nearest_existing(folder)) {
        Ok(TMPFS_MAGIC | RAMFS_MAGIC) => Finding::ok(NAME, format!("{detail}, in memory")),
        Ok(_) => Finding::fail(
            NAME,
            format!("{detail} is on a disk: marks would outlive what they speak of"),
            mend,
        ),
        Err(error) => Finding::fail(NAME, format!("{detail} can't be looked at: {error}"), mend),
    }
}

/// The agent makes its folders itself; before its first start, what counts is where they will be.
fn nearest_existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn file_system(path: &Path) -> io::Result<i64> {
    Ok(rustix::fs::statfs(path)?.f_type)
}

/// What making a decision takes, done once for nothing.
fn try_link(folder: &Path) -> io::Result<()> {
    let scratch = tempfile::Builder::new().prefix(".transship-doctor-").tempdir_in(folder)?;
    let (draft, record) = (scratch.path().join("draft"), scratch.path().join("record"));
    let mut file = File::create_new(&draft)?;
    file.write_all(b"nothing")?;
    file.sync_all()?;
    fs::hard_link(&draft, &record)?;
    match fs::hard_link(&draft, &record) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
        Ok(()) => return Err(io::Error::other("link() replaces a file that is there")),
    }
    File::open(scratch.path())?.sync_all()?;
    scratch.close()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_disk_keeps_decisions_and_nothing_is_left_of_the_trial() {
        // The build's own folder is on a disk, whatever /tmp is.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        try_link(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_for_sockets_not_for_decisions() {
        let shm = Path::new("/dev/shm/not-there-yet");
        assert_eq!(state(shm).status, Status::Fail);
        assert_eq!(run(shm).status, Status::Ok);
        assert_eq!(run(Path::new("/proc/not-there")).status, Status::Fail);
    }

    #[test]
    fn a_folder_to_come_is_judged_by_where_it_will_be() {
        assert_eq!(nearest_existing(Path::new("/proc/self/a/b")), Path::new("/proc/self"));
        assert_eq!(nearest_existing(Path::new("/no/such/folder")), Path::new("/"));
    }
}

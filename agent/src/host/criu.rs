//! What CRIU leaves on the host when it is killed.

use std::io::ErrorKind;
use std::path::PathBuf;

use procfs::process::all_processes;
use transship_proto::Fault;

use super::{failed, unmount_below};

/// Where CRIU makes folders of its own, mostly to mount something there.
const FOLDERS: &str = "/tmp";
/// What their names begin with (CRIU 4.2: criu/mount.c, criu/cgroup.c, criu/util.c, criu/kerndat.c).
const NAMES: [&str; 3] = [".criu.", "cr-tmpfs.", "crtools-proc."];

/// Unmounts and removes CRIU's folders, if no CRIU is left on this host that could still use one.
///
/// # Errors
/// When one can't be unmounted or removed.
pub fn remove_abandoned_folders() -> Result<(), Fault> {
    let found = folders()?;
    // Looked at in this order, whoever made one of those is seen if it still lives.
    if found.is_empty() || criu_runs()? {
        return Ok(());
    }
    for folder in found {
        unmount_below(&folder)?;
        match std::fs::remove_dir(&folder) {
            // One that holds something isn't what it looked like.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            removed => removed.map_err(failed(format_args!("removing {}", folder.display())))?,
        }
    }
    Ok(())
}

fn folders() -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(FOLDERS).map_err(failed(format_args!("reading {FOLDERS}")))? {
        let entry = entry.map_err(failed(format_args!("reading {FOLDERS}")))?;
        let named =
            NAMES.iter().any(|name| entry.file_name().as_encoded_bytes().starts_with(name.as_bytes()));
        if named && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn criu_runs() -> Result<bool, Fault> {
    let all = all_processes()
        .map_err(|error| failed("listing the host's processes")(std::io::Error::other(error)))?;
    // One that has ended meanwhile is none.
    Ok(all.flatten().filter_map(|process| process.stat().ok()).any(|stat| stat.comm == "criu"))
}

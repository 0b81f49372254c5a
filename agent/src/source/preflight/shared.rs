//! What several containers of a Pod hold together. Each is dumped by a CRIU of its own, which knows nothing of the other:
//! what has a name is found again by it, what has none would come back as two.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use procfs::ProcResult;
use procfs::process::{MMapPath, MemoryMap, Process};
use transship_proto::{Fault, Reason};

use super::tasks::still_there;
use crate::host::process::TaskGroup;

/// A file of the host: device and inode.
type Identity = (u64, u64);

/// Every reason not to move these containers together. One alone has none.
pub fn refusals(containers: &[(&str, &Vec<TaskGroup>)]) -> ProcResult<Vec<Fault>> {
    let mut found = Vec::new();
    if containers.len() < 2 {
        return Ok(found);
    }
    let mut holders: HashMap<Identity, &str> = HashMap::new();
    for (name, groups) in containers {
        for group in groups.iter().filter(|group| group.state != 'Z') {
            let who = format!("process {} ({}) of container {name}", group.pid, group.name);
            let Some(process) = still_there(Process::new(group.pid.cast_signed()))? else { continue };
            let maps = still_there(process.maps())?.map_or_else(Vec::new, |maps| maps.0);
            if maps.iter().any(|map| matches!(map.pathname, MMapPath::Vsys(_))) {
                let what = format!(
                    "{who} has a System V shared memory segment attached, which can't be carried for a Pod of several containers; let it use POSIX shared memory (/dev/shm)"
                );
                found.push(Fault::new(Reason::SharedByContainers, what));
            }
            for unlinked in mapped(&maps).chain(open(group.pid)) {
                let holder = holders.entry(unlinked).or_insert(name);
                if holder != name {
                    let what = format!(
                        "{who} shares an unlinked file with container {holder}, which would come back as two; let them keep its name as long as both use it"
                    );
                    found.push(Fault::new(Reason::SharedByContainers, what));
                }
            }
        }
    }
    Ok(found)
}

/// Mapped files that no name leads to any more.
fn mapped(maps: &[MemoryMap]) -> impl Iterator<Item = Identity> {
    maps.iter().filter_map(|map| match &map.pathname {
        MMapPath::Path(path) if path.as_os_str().as_encoded_bytes().ends_with(b" (deleted)") => {
            let (major, minor) = (u32::try_from(map.dev.0).ok()?, u32::try_from(map.dev.1).ok()?);
            Some((rustix::fs::makedev(major, minor), map.inode))
        }
        _ => None,
    })
}

/// Open files that no name leads to any more. A process that has just ended has none.
fn open(pid: u32) -> impl Iterator<Item = Identity> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let metadata = entry.path().metadata().ok()?;
        (metadata.is_file() && metadata.nlink() == 0).then_some((metadata.dev(), metadata.ino()))
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::host::process::look;

    /// A process that holds that file, and nothing else of ours.
    fn holder(file: &File) -> Child {
        let mut sleep = Command::new("sleep");
        sleep.arg("60").stdin(file.try_clone().unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        sleep.spawn().unwrap()
    }

    #[test]
    fn a_file_that_two_hold_must_have_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create(&path).unwrap();
        let mut children = [holder(&file), holder(&file)];
        let groups = children.each_ref().map(|child| look([child.id()]).unwrap());
        let reasons = |containers: &[(&str, &Vec<TaskGroup>)]| -> Vec<Reason> {
            refusals(containers).unwrap().into_iter().map(|fault| fault.reason).collect()
        };
        let both = [("one", &groups[0]), ("other", &groups[1])];
        assert_eq!(reasons(&both), []);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(reasons(&both), [Reason::SharedByContainers]);
        assert_eq!(reasons(&both[..1]), []);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

//! Files by identity, and paths within another root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use super::claim::FileId;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Which file the path leads to.
pub(super) fn file_id(path: &Path) -> io::Result<FileId> {
    Ok(id_of(&statx(CWD, path, AtFlags::empty(), StatxFlags::INO)?))
}

pub(super) fn id_of(stat: &Statx) -> FileId {
    FileId { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino }
}

/// A path within another root, without links and `..`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved(PathBuf);

impl Resolved {
    /// Seen from within that root.
    pub fn absolute(&self) -> PathBuf {
        Path::new("/").join(&self.0)
    }

    /// To be joined to that root.
    pub fn relative(&self) -> &Path {
        &self.0
    }
}

/// Follows a path within `root` as if it were `/`, as container runtimes do to find where to mount: what doesn't exist
/// is kept as it is. Nobody may be changing that root meanwhile.
pub(super) fn resolve_in(root: &Path, path: &Path) -> Resolved {
    let mut todo: VecDeque<OsString> = names(path).collect();
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(name);
        let Ok(target) = root.join(&done).read_link() else { continue };
        links += 1;
        if links > MAX_LINKS {
            continue;
        }
        done.pop();
        if target.is_absolute() {
            done.clear();
        }
        for name in names(&target).rev() {
            todo.push_front(name);
        }
    }
    Resolved(done)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::create_dir_all;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        create_dir_all(root.join("run")).unwrap();
        create_dir_all(root.join("var")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../../etc", root.join("var/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let resolve = |path: &str| resolve_in(root, Path::new(path)).absolute();
        assert_eq!(resolve("/var/run/secrets/token"), Path::new("/run/secrets/token"));
        assert_eq!(resolve("/var/up/passwd"), Path::new("/etc/passwd"));
        assert_eq!(resolve("../../x/./y"), Path::new("/x/y"));
        assert_eq!(resolve("/loop/z"), Path::new("/loop/z"));
    }
}

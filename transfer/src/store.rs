//! The directory that a tree is placed in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, Mode, OFlags, ResolveFlags, fallocate, fchmod, ftruncate, mkdirat, open,
    openat2, unlinkat,
};
use rustix::io::{Errno, pwrite};

use crate::core::path::TreePath;
use crate::core::tree::{Entry, EntryKind};

/// The receiving directory. Nobody else may write into it.
///
/// Every file is opened anew for every chunk: that costs two microseconds of the hundred that a chunk takes, and no
/// descriptor is held however many entries a sender leaves open. Nothing is made durable: a tree that was lost with
/// its host is sent again.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    dir: OwnedFd,
}

impl Store {
    /// Opens a directory that has to exist and be empty.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: Errno| StoreError::Directory { dir: path.into(), source: source.into() };
        let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed)?;
        for entry in Dir::read_from(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if !matches!(name.to_bytes(), b"." | b"..") {
                return Err(StoreError::NotEmpty { dir: path.into(), name: name.to_string_lossy().into() });
            }
        }
        Ok(Self { path: path.into(), dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `data` into the file `path` at `offset`. The file is made if there is none, and so are its parents.
    pub fn write(&self, path: &TreePath, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        let failed = |source| self.failed(path, source);
        let file = self.file(path).map_err(failed)?;
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            match pwrite(&file, data, offset) {
                Ok(0) => return Err(failed(Errno::NOSPC)),
                Ok(written) => {
                    data = &data[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    /// Makes a hole of `length` bytes where something was written before.
    pub fn clear(&self, path: &TreePath, offset: u64, length: u64) -> Result<(), StoreError> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let cleared = self.file(path).and_then(|file| fallocate(file, punch, offset, length));
        cleared.map_err(|source| self.failed(path, source))
    }

    /// Gives a verified entry its size and its mode: files that end in a hole, and empty ones, come to be here.
    pub fn settle(&self, entry: &Entry) -> Result<(), StoreError> {
        let EntryKind::File { mode } = entry.kind;
        let settled = self.file(&entry.path).and_then(|file| {
            ftruncate(&file, entry.size)?;
            fchmod(&file, Mode::from_raw_mode(mode))
        });
        settled.map_err(|source| self.failed(&entry.path, source))
    }

    /// Removes a file, if there is one.
    pub fn remove(&self, path: &TreePath) -> Result<(), StoreError> {
        let (parent, name) = path.as_str().rsplit_once('/').unwrap_or((".", path.as_str()));
        let removed = self
            .open_beneath(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|parent| unlinkat(parent, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(self.failed(path, source)),
        }
    }

    /// Opens a file beneath the directory, and only there: no symbolic link is followed, no mount is crossed.
    fn file(&self, path: &TreePath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.open_beneath(path.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::NOENT) => {
                self.make_parents(path)?;
                self.open_beneath(path.as_str(), flags, Mode::RUSR | Mode::WUSR)
            }
            outcome => outcome,
        }
    }

    fn make_parents(&self, path: &TreePath) -> Result<(), Errno> {
        for (slash, _) in path.as_str().match_indices('/') {
            let (parent, name) =
                path.as_str()[..slash].rsplit_once('/').unwrap_or((".", &path.as_str()[..slash]));
            let parent =
                self.open_beneath(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open_beneath(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        loop {
            match openat2(self.dir.as_fd(), path, flags, mode, resolve) {
                // The kernel couldn't rule out that the path was renamed under it: openat2(2) says to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return outcome,
            }
        }
    }

    fn failed(&self, path: &TreePath, source: Errno) -> StoreError {
        match source {
            Errno::NOSPC | Errno::DQUOT => StoreError::Full { dir: self.path.clone(), path: path.clone() },
            source => StoreError::Place { dir: self.path.clone(), path: path.clone(), source: source.into() },
        }
    }
}

/// The tree can't be placed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The receiving directory can't be used.
    #[error("can't use {} to receive into", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The receiving directory holds something.
    #[error("{} has to be empty to receive into, it holds {name:?}", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One thing that is in it.
        name: String,
    },
    /// No space left.
    #[error("no space left in {} while placing {path}", dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
        /// The entry.
        path: TreePath,
    },
    /// A file can't be made or written.
    #[error("can't place {path} in {}", dir.display())]
    Place {
        /// The directory.
        dir: PathBuf,
        /// The entry.
        path: TreePath,
        /// Why not.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn path(path: &str) -> TreePath {
        TreePath::new(path).unwrap()
    }

    #[test]
    fn files_are_private_until_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(&path("a/b/c"), 5, b"hello").unwrap();
        let file = dir.path().join("a/b/c");
        assert_eq!(fs::read(&file).unwrap(), b"\0\0\0\0\0hello");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().permissions().mode() & 0o7777, 0o700);

        let hash = blake3::hash(b"");
        let kind = EntryKind::File { mode: 0o644 };
        store.settle(&Entry { path: path("a/b/c"), kind, size: 7, hash }).unwrap();
        store.settle(&Entry { path: path("empty"), kind, size: 0, hash }).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"\0\0\0\0\0he");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::metadata(dir.path().join("empty")).unwrap().len(), 0);
    }

    #[test]
    fn cleared_chunks_are_holes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(&path("f"), 0, &[1; 1 << 20]).unwrap();
        store.clear(&path("f"), 0, 512 << 10).unwrap();
        let metadata = fs::metadata(dir.path().join("f")).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        assert!(metadata.blocks() * 512 <= 600 << 10);
        assert_eq!(fs::read(dir.path().join("f")).unwrap()[(512 << 10) - 1..][..2], [0, 1]);
    }

    #[test]
    fn what_was_left_over_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.write(&path("a/b"), 0, b"x").unwrap();
        store.remove(&path("a/b")).unwrap();
        assert!(!dir.path().join("a/b").exists());
        store.remove(&path("a/b")).unwrap();
        store.remove(&path("never/there")).unwrap();
    }

    #[test]
    fn a_link_out_of_the_directory_is_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink(outside.path().join("file"), dir.path().join("link")).unwrap();
        for escape in ["out/file", "link", "out/deeper/file"] {
            let error = store.write(&path(escape), 0, b"x").unwrap_err();
            assert!(matches!(error, StoreError::Place { .. }), "{error}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_holds_something_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("old"), b"").unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(&error, StoreError::NotEmpty { name, .. } if name == "old"), "{error}");
    }
}

//! From a layer onto a mounted root file system.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    chmodat, chownat, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use tar::EntryType;
use thiserror::Error;

use super::xattrs::{self, Xattrs};
use super::{OPAQUE, SOCKET, WHITEOUT, XATTR};
use crate::tar_reader::{Caps, Entry, TarError, TarReader, decompressed, link_target};

/// Why a layer can't be applied. What was applied before stays.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The root file system can't be opened.
    #[error("can't open the root file system {path}: {source}")]
    Root {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layer is no tar stream, or one that is refused.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry can't be put in its place.
    #[error("can't make {path} in the root file system as the layer has it: {source}")]
    Entry {
        /// The entry's path in the layer.
        path: PathBuf,
        /// Why. `ELOOP`, `EXDEV`: a directory above it is a link or a mount.
        source: io::Error,
    },
    /// An entry isn't one of a layer.
    #[error("the layer's {path} {what}")]
    Refused {
        /// The entry's path in the layer.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
}

/// Puts a layer, plain or compressed by gzip or zstd, onto the root file system that is mounted at `root`.
///
/// No link is followed and no mount entered, so nothing outside of `root` is touched whatever the layer says. Nobody
/// else may be changing the root file system meanwhile. Needs root, and `/proc`.
pub fn apply(layer: impl Read, root: &Path, caps: &Caps) -> Result<(), ApplyError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty())
        .map_err(|error| ApplyError::Root { path: root.to_owned(), source: error.into() })?;
    let mut tar = TarReader::new(decompressed(layer).map_err(TarError::from)?, *caps);
    let mut tree = Tree { root, made: HashSet::new(), directories: Vec::new() };
    while let Some(entry) = tar.next()? {
        tree.put(&entry, &mut tar)?;
    }
    tree.finish()
}

struct Tree {
    root: OwnedFd,
    /// What this layer has brought, which its own opaque markers leave alone.
    made: HashSet<PathBuf>,
    /// Directories with their times, which are set when nothing changes in them any more.
    directories: Vec<(PathBuf, (i64, u32))>,
}

impl Tree {
    fn put(&mut self, entry: &Entry, contents: &mut impl Read) -> Result<(), ApplyError> {
        let path = &entry.path;
        let failed = |error: io::Error| ApplyError::Entry { path: path.clone(), source: error };
        let Some(name) = path.file_name() else {
            return self.root_itself(entry).map_err(failed);
        };
        let parent_path = path.parent().unwrap_or(Path::new(""));
        let parent = self.parent(parent_path).map_err(failed)?;
        if name == OPAQUE {
            return self.hide_all_below(&parent, parent_path).map_err(failed);
        }
        if let Some(removed) = name.as_bytes().strip_prefix(WHITEOUT.as_bytes()) {
            if removed.starts_with(WHITEOUT.as_bytes()) || matches!(removed, b"" | b"." | b"..") {
                return Err(refused(path, "is a marker that isn't known"));
            }
            return remove(&parent, OsStr::from_bytes(removed)).map_err(failed);
        }
        self.made.insert(path.clone());
        if entry.kind == EntryType::Directory {
            self.directory(entry, &parent, name).map_err(failed)
        } else {
            remove(&parent, name).map_err(failed)?;
            self.file(entry, &parent, name, contents)
        }
    }

    fn root_itself(&mut self, entry: &Entry) -> io::Result<()> {
        if entry.kind != EntryType::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let dot = open_directory(&self.root, OsStr::new("."))?;
        describe(&dot, OsStr::new("."), entry)?;
        self.directories.push((PathBuf::new(), entry.modified));
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let is_there = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_there {
            remove(parent, name)?;
            mkdirat(parent, name, Mode::RWXU)?;
        }
        describe(parent, name, entry)?;
        self.directories.push((entry.path.clone(), entry.modified));
        Ok(())
    }

    fn file(
        &self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &OsStr,
        contents: &mut impl Read,
    ) -> Result<(), ApplyError> {
        let failed = |error: io::Error| ApplyError::Entry { path: entry.path.clone(), source: error };
        let mut made = || -> io::Result<()> {
            match entry.kind {
                EntryType::Regular | EntryType::Continuous if is_socket(entry) => {
                    node(parent, name, FileType::Socket, 0)
                }
                EntryType::Regular | EntryType::Continuous => {
                    let flags =
                        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                    io::copy(contents, &mut file)?;
                    Ok(())
                }
                EntryType::Symlink => Ok(symlinkat(&entry.target, parent, name)?),
                EntryType::Fifo => node(parent, name, FileType::Fifo, 0),
                EntryType::Char => node(parent, name, FileType::CharacterDevice, device(entry)),
                EntryType::Block => node(parent, name, FileType::BlockDevice, device(entry)),
                _ => Ok(()),
            }
        };
        match entry.kind {
            EntryType::Link => return self.link(entry, parent, name),
            // To an overlay that is a removal, and not what the layer says.
            EntryType::Char if entry.device == (0, 0) => {
                return Err(refused(&entry.path, "is a device with the number 0:0"));
            }
            EntryType::Regular
            | EntryType::Continuous
            | EntryType::Symlink
            | EntryType::Fifo
            | EntryType::Char
            | EntryType::Block => made().map_err(failed)?,
            _ => return Err(refused(&entry.path, "is of a kind that no layer has")),
        }
        describe(parent, name, entry).map_err(failed)?;
        set_time(parent, name, entry.modified).map_err(failed)
    }

    fn link(&self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<(), ApplyError> {
        let failed = |error: io::Error| ApplyError::Entry { path: entry.path.clone(), source: error };
        let target = link_target(&entry.target)?;
        let Some(target_name) = target.file_name() else {
            return Err(refused(&entry.path, "is a hard link to the root"));
        };
        let target_parent = self.parent(target.parent().unwrap_or(Path::new(""))).map_err(failed)?;
        linkat(&target_parent, target_name, parent, name, AtFlags::empty())
            .map_err(|error| failed(error.into()))
    }

    /// Opens a directory of the tree, but not through a link or into a mount.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(&self.root, path, flags, Mode::empty(), how)?)
    }

    /// Opens the directory that an entry goes to; makes what is missing, as layers needn't have all of it.
    fn parent(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let above = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().unwrap_or_default();
        mkdirat(&above, name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        self.open(path)
    }

    fn hide_all_below(&self, directory: &OwnedFd, path: &Path) -> io::Result<()> {
        for name in names(directory)? {
            if !self.made.contains(&path.join(&name)) {
                remove(directory, &name)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ApplyError> {
        for (path, modified) in self.directories.iter().rev() {
            let failed = |error: io::Error| ApplyError::Entry { path: path.clone(), source: error };
            match self.open(path) {
                Ok(directory) => set_time(&directory, OsStr::new("."), *modified).map_err(failed)?,
                // A later entry removed or replaced it.
                Err(error) if is_no_directory(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

fn refused(path: &Path, what: &'static str) -> ApplyError {
    ApplyError::Refused { path: path.to_owned(), what }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn is_socket(entry: &Entry) -> bool {
    entry.records.iter().any(|(key, _)| key == SOCKET)
}

fn device(entry: &Entry) -> u64 {
    makedev(entry.device.0, entry.device.1)
}

fn node(parent: &OwnedFd, name: &OsStr, kind: FileType, device: u64) -> io::Result<()> {
    Ok(mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?)
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(open_directory(directory, OsStr::new("."))?)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes what is there, if anything, with all that is in it.
fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => fs::remove_dir_all(by_path(parent.as_fd(), name)),
        Err(error) => Err(error.into()),
    }
}

/// A path to `name` in an open directory, for calls that take no descriptor.
fn by_path(parent: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name)
}

/// Sets owner, mode and extended attributes, in this order: a change of the owner takes set-user-id bits and file
/// capabilities away.
fn describe(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> io::Result<()> {
    let owner = (Uid::from_raw(entry.user), Gid::from_raw(entry.group));
    chownat(parent, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    if entry.kind != EntryType::Symlink {
        chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    let xattr = |(key, value): &(OsString, Vec<u8>)| {
        let name = key.as_bytes().strip_prefix(XATTR.as_bytes())?;
        Some((OsStr::from_bytes(name).to_owned(), value.clone()))
    };
    let xattrs: Xattrs = entry.records.iter().filter_map(xattr).collect();
    Ok(xattrs::write(&by_path(parent.as_fd(), name), &xattrs)?)
}

fn set_time(parent: &OwnedFd, name: &OsStr, (seconds, nanos): (i64, u32)) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    };
    Ok(utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

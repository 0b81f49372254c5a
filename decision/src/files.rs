//! The few things that are asked of a disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether [`Files::link`] gave the name, or found it taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The name is ours.
    New,
    /// Somebody was there first; nothing was changed.
    Taken,
}

/// Small durable files. Whatever a method has returned `Ok` for outlives a loss of power.
///
/// [`Disk`] is the one that is used; the simulation has another.
pub trait Files {
    /// Writes `bytes` into a new file without a lasting name in `folder`, which must be there.
    fn stage(&self, folder: &Path, bytes: &[u8]) -> io::Result<PathBuf>;

    /// Gives the staged file at `from` the name `to`, unless `to` is there already, in which case that one
    /// is made durable. Makes `to`'s folder (not its parents) where it is missing.
    fn link(&self, from: &Path, to: &Path) -> io::Result<Linked>;

    /// Removes `path`; a path that isn't there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The content of `path`, `None` where there is none. More than 1 MiB is an error.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
}

/// The most that is read of any file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn stage(&self, folder: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
        let (path, mut file) = create_unnamed(folder)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<Linked> {
        let folder = parent(to)?;
        let mut linked = fs::hard_link(from, to);
        if matches!(&linked, Err(e) if e.kind() == io::ErrorKind::NotFound) && !folder.exists() {
            make_folder(folder)?;
            linked = fs::hard_link(from, to);
        }
        let linked = match linked {
            Ok(()) => Linked::New,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Linked::Taken,
            Err(e) => return Err(e),
        };
        // Also when it was taken: the other one may not have come to its own fsync yet.
        sync_folder(folder)?;
        Ok(linked)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Ok(()) => sync_folder(parent(path)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than anything written here"));
        }
        Ok(Some(bytes))
    }
}

/// Makes `folder`, whose parent must be there, and its name durable.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    sync_folder(parent(folder)?)
}

/// A new file that no reader looks for: its name begins with a dot. The number tells apart those of one
/// process, `create_new` those of others that have the same pid in another namespace.
fn create_unnamed(folder: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".staged-{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a folder"))
}

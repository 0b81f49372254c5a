//! Checkpoint archives as kubelet and CRI make them: a tar stream, perhaps compressed, of `config.dump`, `spec.dump`,
//! `rootfs-diff.tar`, CRIU's images in `checkpoint/`, and the like.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tar::EntryType;
use thiserror::Error;

pub use crate::tar_reader::{Caps, TarError};
use crate::tar_reader::{TarReader, decompressed};

/// Why an archive can't be unpacked. What was unpacked before stays.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It is no tar stream, or one that is refused.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// It has something in it that no checkpoint needs.
    #[error("the archive's {0} is neither a file nor a directory: no checkpoint has such a thing")]
    Refused(PathBuf),
    /// It has the same path twice.
    #[error("the archive has {0} twice")]
    Twice(PathBuf),
    /// Something can't be written.
    #[error("can't write {path}: {source}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks an archive, plain or compressed by gzip or zstd, into a directory that is there and empty.
///
/// Files get the mode 0600 and directories 0700, and all belong to the caller: memory of a process is nobody else's. As
/// there are only files and directories, and each path but once, nothing can lead out of the directory.
pub fn unpack(archive: impl Read, dir: &Path, caps: &Caps) -> Result<(), ArchiveError> {
    let mut tar = TarReader::new(decompressed(archive).map_err(TarError::from)?, *caps);
    while let Some(entry) = tar.next()? {
        let path = dir.join(&entry.path);
        let made = match entry.kind {
            EntryType::Directory => make_directories(&path),
            EntryType::Regular | EntryType::Continuous => make_file(&path, &mut tar),
            _ => return Err(ArchiveError::Refused(entry.path)),
        };
        made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ArchiveError::Twice(entry.path),
            _ => ArchiveError::Write { path, source },
        })?;
    }
    Ok(())
}

fn make_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn make_file(path: &Path, contents: &mut impl Read) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_directories(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(contents, &mut file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CAPS: Caps = Caps { entries: 10, bytes: 1000 };

    fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, contents) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(contents.len() as u64);
            header.set_mode(0o4777);
            header.set_uid(7);
            header.set_gid(7);
            header.set_mtime(0);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, contents.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    const FILE: EntryType = EntryType::Regular;
    const DIRECTORY: EntryType = EntryType::Directory;

    #[test]
    fn files_and_directories_are_the_callers_own() {
        let plain = archive(&[
            ("config.dump", FILE, "{}"),
            ("checkpoint/", DIRECTORY, ""),
            ("checkpoint/x.img", FILE, "x"),
        ]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for archive in [plain, gzip.finish().unwrap(), zstd] {
            let dir = tempfile::tempdir().unwrap();
            unpack(&archive[..], dir.path(), &CAPS).unwrap();
            let image = dir.path().join("checkpoint/x.img");
            assert_eq!(fs::read_to_string(&image).unwrap(), "x");
            assert_eq!(fs::metadata(&image).unwrap().permissions().mode() & 0o7777, 0o600);
        }
    }

    #[test]
    fn links_devices_and_repetitions_are_refused() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Fifo] {
            let dir = tempfile::tempdir().unwrap();
            let outcome = unpack(&archive(&[("x", kind, "")])[..], dir.path(), &CAPS);
            assert!(matches!(outcome, Err(ArchiveError::Refused(_))), "{kind:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let twice = archive(&[("x", FILE, "1"), ("x", FILE, "2")]);
        assert!(matches!(unpack(&twice[..], dir.path(), &CAPS), Err(ArchiveError::Twice(_))));
    }

    #[test]
    fn a_small_archive_of_something_huge_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let huge = zstd::encode_all(&archive(&[("x", FILE, &"0".repeat(1001))])[..], 1).unwrap();
        assert!(matches!(
            unpack(&huge[..], dir.path(), &CAPS),
            Err(ArchiveError::Tar(TarError::TooMuch { .. }))
        ));
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}

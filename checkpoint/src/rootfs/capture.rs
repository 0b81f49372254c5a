//! From an overlay's upper directory into a layer.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use super::{OPAQUE, SOCKET, WHITEOUT, XATTR, pax_time, xattrs};

/// What a ustar header has room for; longer paths go into a PAX record.
const NAME_BYTES: usize = 100;

/// Why a root file system's changes can't be captured.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Something in the upper directory can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layer can't be written where it is to go.
    #[error("can't write the layer, at {path}: {source}")]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file changed its size while it was read: the container isn't frozen.
    #[error("{path} changed while it was captured: freeze the container first")]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// Something that a layer can't express.
    #[error("{path} {what}: a layer can't carry that")]
    Inexpressible {
        /// What.
        path: PathBuf,
        /// What about it.
        what: &'static str,
    },
}

/// Writes the changes in the overlay's upper directory as an uncompressed tar stream, in one pass.
///
/// The same tree gives the same bytes: a directory comes before what is in it, names are in the order of their bytes.
/// Nothing may be changing the tree: the container is frozen.
pub fn capture(upper: &Path, out: impl Write) -> Result<(), CaptureError> {
    let mut writer = Writer { upper, tar: Builder::new(out), links: HashMap::new() };
    writer.directory(Path::new(""), &writer.metadata(Path::new(""))?)?;
    let root = Path::new("/");
    let mut out = writer.tar.into_inner().map_err(|source| write_error(root, source))?;
    out.flush().map_err(|source| write_error(root, source))
}

fn write_error(path: &Path, source: io::Error) -> CaptureError {
    CaptureError::Write { path: path.to_owned(), source }
}

struct Writer<'a, W: Write> {
    upper: &'a Path,
    tar: Builder<W>,
    /// The first path of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Writer<'_, W> {
    fn directory(&mut self, path: &Path, metadata: &Metadata) -> Result<(), CaptureError> {
        let full = self.upper.join(path);
        if self.overlay_attribute(path, "redirect")?.is_some() {
            return Err(inexpressible(full, "was moved within the image (the overlay's redirect_dir)"));
        }
        self.entry(path, EntryType::Directory, metadata, None)?;
        // "x" says of a directory that some of its files are whiteouts by attribute, "y" that it hides all below.
        if self.overlay_attribute(path, "opaque")?.as_deref() == Some(b"y") {
            self.marker(&path.join(OPAQUE))?;
        }
        for name in self.names(&full)? {
            self.child(&path.join(name))?;
        }
        Ok(())
    }

    fn names(&self, directory: &Path) -> Result<Vec<OsString>, CaptureError> {
        let failed = |source| CaptureError::Read { path: directory.to_owned(), source };
        let names =
            fs::read_dir(directory).map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn child(&mut self, path: &Path) -> Result<(), CaptureError> {
        let metadata = self.metadata(path)?;
        let name = path.file_name().unwrap_or_default();
        if self.is_whiteout(path, &metadata)? {
            let mut whiteout = OsString::from(WHITEOUT);
            whiteout.push(name);
            return self.marker(&path.with_file_name(whiteout));
        }
        if name.as_bytes().starts_with(WHITEOUT.as_bytes()) {
            return Err(inexpressible(self.upper.join(path), "has a name that means a removal in a layer"));
        }
        if metadata.is_dir() {
            return self.directory(path, &metadata);
        }
        if metadata.nlink() > 1 {
            match self.links.entry((metadata.dev(), metadata.ino())) {
                Slot::Occupied(first) => {
                    let first = first.get().clone();
                    return self.entry(path, EntryType::Link, &metadata, Some(&first));
                }
                Slot::Vacant(slot) => drop(slot.insert(path.to_owned())),
            }
        }
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target =
                fs::read_link(self.upper.join(path)).map_err(|source| self.read_error(path, source))?;
            self.entry(path, EntryType::Symlink, &metadata, Some(&target))
        } else if kind.is_file() {
            self.entry(path, EntryType::Regular, &metadata, None)
        } else if kind.is_fifo() {
            self.entry(path, EntryType::Fifo, &metadata, None)
        } else if kind.is_char_device() {
            self.entry(path, EntryType::Char, &metadata, None)
        } else if kind.is_block_device() {
            self.entry(path, EntryType::Block, &metadata, None)
        } else {
            // What else there is: a unix socket.
            self.entry(path, EntryType::Regular, &metadata, None)
        }
    }

    fn is_whiteout(&self, path: &Path, metadata: &Metadata) -> Result<bool, CaptureError> {
        if metadata.file_type().is_char_device() {
            return Ok(metadata.rdev() == 0);
        }
        if !metadata.is_file() {
            return Ok(false);
        }
        if self.overlay_attribute(path, "metacopy")?.is_some() {
            let full = self.upper.join(path);
            return Err(inexpressible(full, "has its contents in the image alone (the overlay's metacopy)"));
        }
        Ok(metadata.size() == 0 && self.overlay_attribute(path, "whiteout")?.is_some())
    }

    /// A removal: an empty file of nobody's and no time.
    fn marker(&mut self, path: &Path) -> Result<(), CaptureError> {
        self.write(path, empty_header(), Vec::new(), None, &mut io::empty())
    }

    fn entry(
        &mut self,
        path: &Path,
        kind: EntryType,
        metadata: &Metadata,
        target: Option<&Path>,
    ) -> Result<(), CaptureError> {
        let mut header = empty_header();
        header.set_entry_type(kind);
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        let mut records = Vec::new();
        // `metadata` has the nanoseconds as they are in a timespec: upwards from the second, below 1,000,000,000.
        let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec() as u32);
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        if nanos != 0 || seconds < 0 {
            records.push(("mtime".to_owned(), pax_time(seconds, nanos).into_bytes()));
        }
        if kind == EntryType::Link {
            // The first path of the file has the rest.
            return self.write(path, header, records, target, &mut io::empty());
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let failed = |source| write_error(path, source);
            header.set_device_major(major(metadata.rdev())).map_err(failed)?;
            header.set_device_minor(minor(metadata.rdev())).map_err(failed)?;
        }
        let full = self.upper.join(path);
        for (name, value) in xattrs::read(&full).map_err(|error| self.read_error(path, error.into()))? {
            let name = name.into_string().map_err(|_| {
                inexpressible(full.clone(), "has an extended attribute whose name isn't UTF-8")
            })?;
            records.push((format!("{XATTR}{name}"), value));
        }
        if metadata.file_type().is_socket() {
            records.push((SOCKET.to_owned(), b"1".to_vec()));
        }
        if !metadata.is_file() {
            return self.write(path, header, records, target, &mut io::empty());
        }
        header.set_size(metadata.size());
        let file = File::open(&full).map_err(|source| self.read_error(path, source))?;
        let mut contents = Contents { file, left: metadata.size(), failed: None };
        let written = self.write(path, header, records, target, &mut contents);
        match contents.failed {
            Some(Failure::Read(source)) => Err(self.read_error(path, source)),
            Some(Failure::Changed) => Err(CaptureError::Changed { path: full }),
            None => written,
        }
    }

    fn write(
        &mut self,
        path: &Path,
        mut header: Header,
        mut records: Vec<(String, Vec<u8>)>,
        target: Option<&Path>,
        contents: &mut dyn Read,
    ) -> Result<(), CaptureError> {
        let name = if path.as_os_str().is_empty() { OsStr::new("./") } else { path.as_os_str() };
        let fields = header.as_old_mut();
        put(name, &mut fields.name, "path", &mut records);
        if let Some(target) = target {
            put(target.as_os_str(), &mut fields.linkname, "linkpath", &mut records);
        }
        header.set_cksum();
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        let written =
            self.tar.append_pax_extensions(records).and_then(|()| self.tar.append(&header, contents));
        written.map_err(|source| write_error(path, source))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata, CaptureError> {
        fs::symlink_metadata(self.upper.join(path)).map_err(|source| self.read_error(path, source))
    }

    fn overlay_attribute(&self, path: &Path, name: &str) -> Result<Option<Vec<u8>>, CaptureError> {
        xattrs::of_overlay(&self.upper.join(path), name).map_err(|error| self.read_error(path, error.into()))
    }

    fn read_error(&self, path: &Path, source: io::Error) -> CaptureError {
        CaptureError::Read { path: self.upper.join(path), source }
    }
}

/// All numbers zero: a new header's are blank, which is no number.
fn empty_header() -> Header {
    let mut header = Header::new_ustar();
    header.set_size(0);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn inexpressible(path: PathBuf, what: &'static str) -> CaptureError {
    CaptureError::Inexpressible { path, what }
}

/// Puts a path into a header's field, and into a record if it is too long for it.
fn put(value: &OsStr, field: &mut [u8; NAME_BYTES], key: &str, records: &mut Vec<(String, Vec<u8>)>) {
    let value = value.as_bytes();
    let fits = value.len().min(NAME_BYTES);
    field[..fits].copy_from_slice(&value[..fits]);
    if fits < value.len() {
        records.push((key.to_owned(), value.to_vec()));
    }
}

/// A file's contents, exactly as many bytes as it had when it was looked at.
struct Contents {
    file: File,
    left: u64,
    failed: Option<Failure>,
}

enum Failure {
    Read(io::Error),
    Changed,
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let failure = match self.file.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => Failure::Changed,
            Ok(read) => {
                self.left -= read as u64;
                return Ok(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => Failure::Read(error),
        };
        // The builder's error won't say which side it came from.
        self.failed = Some(failure);
        Err(io::ErrorKind::Other.into())
    }
}

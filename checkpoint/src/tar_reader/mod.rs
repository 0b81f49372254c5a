//! Reading a tar stream that may come from a stranger.
//!
//! The crate `tar` reads extension records without a limit and splits their values at newlines, which binary extended
//! attributes have; so the records are read here, and only single headers are left to it.

mod extension;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use tar::{EntryType, Header};
use thiserror::Error;

use extension::Extension;

/// How much a tar stream may bring.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Entries: files, directories, links and all else.
    pub entries: u64,
    /// Bytes of all files together, decompressed.
    pub bytes: u64,
}

/// What is wrong with a tar stream.
#[derive(Debug, Error)]
pub enum TarError {
    /// It can't be read.
    #[error("can't read the tar stream: {0}")]
    Read(#[from] io::Error),
    /// It isn't one.
    #[error("the tar stream is malformed behind {after:?}: {what}")]
    Malformed {
        /// The last entry that was whole.
        after: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// It brings more than is accepted.
    #[error("the tar stream has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
    /// An entry lies outside of the tree.
    #[error("the tar stream has the path {0:?}, which leads out of it")]
    Outside(PathBuf),
}

const BLOCK: usize = 512;
/// The most that the extension records of one entry may take. Linux caps what they hold: a path at 4 KiB, extended
/// attributes at 64 KiB each and, in common file systems, all together.
const MAX_EXTENSION: u64 = 1 << 20;
const MAX_PATH: usize = 4096;

/// An entry's head; its contents are then read from the [`TarReader`].
#[derive(Debug)]
pub struct Entry {
    /// Its path from the tree's root, of plain names alone; empty for the root itself.
    pub path: PathBuf,
    pub kind: EntryType,
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Major and minor of a device node.
    pub device: (u32, u32),
    /// What a link leads to, as it is written.
    pub target: PathBuf,
    /// PAX records other than those above.
    pub records: Vec<(OsString, Vec<u8>)>,
}

/// A stream of entries, each with its contents behind it.
pub struct TarReader<R> {
    stream: R,
    caps: Caps,
    left: Caps,
    /// Contents of the last entry that aren't read yet, and what fills its last block.
    contents: u64,
    padding: u64,
    last: PathBuf,
}

/// The stream behind what its first bytes say that it is compressed with: gzip, zstd or nothing.
pub fn decompressed<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    Ok(match stream.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(stream)?),
        _ => Box::new(stream),
    })
}

impl<R: Read> TarReader<R> {
    pub fn new(stream: R, caps: Caps) -> Self {
        Self { stream, caps, left: caps, contents: 0, padding: 0, last: PathBuf::new() }
    }

    /// The next entry's head, after skipping what is left of the last one's contents.
    pub fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| self.malformed("a size that isn't a number"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.extension(size)?;
                    extension.add_pax(&records).ok_or_else(|| self.malformed("an extension record"))?;
                }
                EntryType::GNULongName => extension.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extension.target = Some(self.long_name(size)?),
                // Defaults for all that follow: nobody who writes layers uses them for more than a comment.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.entry(&header, size, extension).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, extension: Extension) -> Result<Entry, TarError> {
        let kind = header.entry_type();
        let has_contents = kind.is_file() || kind.is_contiguous();
        let size = if has_contents { extension.size.unwrap_or(size) } else { 0 };
        let number = |field: io::Result<u64>| field.ok().and_then(|field| u32::try_from(field).ok());
        let device = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = extension.target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let bad = |what| TarError::Malformed { after: self.last.clone(), what };
        let entry = Entry {
            path: within(path)?,
            kind,
            mode: header.mode().map_err(|_| bad("a mode that isn't a number"))? & 0o7777,
            user: extension
                .user
                .or_else(|| number(header.uid()))
                .ok_or_else(|| bad("a user id that isn't one"))?,
            group: extension
                .group
                .or_else(|| number(header.gid()))
                .ok_or_else(|| bad("a group id that isn't one"))?,
            modified: match extension.modified {
                Some(modified) => modified,
                None => header
                    .mtime()
                    .ok()
                    .and_then(|seconds| i64::try_from(seconds).ok())
                    .map(|seconds| (seconds, 0))
                    .ok_or_else(|| bad("a time that isn't one"))?,
            },
            device: (device(header.device_major()), device(header.device_minor())),
            target: PathBuf::from(OsString::from_vec(target.unwrap_or_default())),
            records: extension.records,
        };
        self.left.entries =
            self.left.entries.checked_sub(1).ok_or(self.too_much("entries", self.caps.entries))?;
        self.left.bytes = self.left.bytes.checked_sub(size).ok_or(self.too_much("bytes", self.caps.bytes))?;
        self.expect_contents(size);
        self.last.clone_from(&entry.path);
        Ok(entry)
    }

    /// The next header, or none at the end: two blocks of zeros, or the stream's own end.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let skipped = io::copy(&mut (&mut self.stream).take(self.contents + self.padding), &mut io::sink())?;
        if skipped != self.contents + self.padding {
            return Err(self.malformed("it ends in the midst of a file"));
        }
        self.expect_contents(0);
        let mut block = [0; BLOCK];
        match read_full(&mut self.stream, &mut block)? {
            0 => return Ok(None),
            BLOCK if block == [0; BLOCK] => return Ok(None),
            BLOCK => {}
            _ => return Err(self.malformed("it ends in the midst of a header")),
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The checksum counts its own eight bytes, at 148, as blanks.
        let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        if header.cksum().ok() != Some(expected) {
            return Err(self.malformed("a header whose checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(self.too_much("bytes of extension records for one entry", MAX_EXTENSION));
        }
        self.expect_contents(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(self.malformed("it ends in the midst of an extension record"));
        }
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    fn expect_contents(&mut self, size: u64) {
        self.contents = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn malformed(&self, what: &'static str) -> TarError {
        TarError::Malformed { after: self.last.clone(), what }
    }

    fn too_much(&self, what: &'static str, limit: u64) -> TarError {
        TarError::TooMuch { what, limit }
    }
}

/// Reads the contents of the last entry, no further.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.contents).unwrap_or(usize::MAX));
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the tar stream ends in the midst of a file",
            ));
        }
        self.contents -= read as u64;
        Ok(read)
    }
}

impl<R> fmt::Debug for TarReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TarReader")
            .field("last", &self.last)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The path from the tree's root.
fn within(path: Vec<u8>) -> Result<PathBuf, TarError> {
    let path = PathBuf::from(OsString::from_vec(path));
    let mut names = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(TarError::Outside(path)),
        }
    }
    if names.as_os_str().len() > MAX_PATH || names.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(TarError::Outside(path));
    }
    Ok(names)
}

/// A hard link's target, as a path from the tree's root.
pub fn link_target(target: &Path) -> Result<PathBuf, TarError> {
    within(target.as_os_str().as_encoded_bytes().to_vec())
}

fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPS: Caps = Caps { entries: 100, bytes: 1 << 20 };

    fn one_file(path: &str, records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        if !records.is_empty() {
            builder.append_pax_extensions(records.iter().copied()).unwrap();
        }
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(3);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn contents_and_records_with_newlines_come_as_they_are() {
        let tar = one_file("./a/b", &[("SCHILY.xattr.user.x", b"1\n2=\n\0"), ("mtime", b"-1.25")]);
        let mut reader = TarReader::new(&tar[..], CAPS);
        let entry = reader.next().unwrap().unwrap();
        assert_eq!(entry.path, Path::new("a/b"));
        assert_eq!(entry.modified, (-2, 750_000_000));
        assert_eq!(entry.records, [(OsString::from("SCHILY.xattr.user.x"), b"1\n2=\n\0".to_vec())]);
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        assert_eq!(contents, b"abc");
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../x", "a/../../x", "a/.."] {
            let tar = one_file(path, &[]);
            assert!(matches!(TarReader::new(&tar[..], CAPS).next(), Err(TarError::Outside(_))), "{path}");
        }
        let tar = one_file("a", &[("path", b"b/../../c")]);
        assert!(matches!(TarReader::new(&tar[..], CAPS).next(), Err(TarError::Outside(_))));
    }

    #[test]
    fn caps_hold() {
        let tar = one_file("a", &[]);
        for caps in [Caps { entries: 0, ..CAPS }, Caps { bytes: 2, ..CAPS }] {
            assert!(matches!(TarReader::new(&tar[..], caps).next(), Err(TarError::TooMuch { .. })));
        }
    }

    #[test]
    fn a_stream_cut_short_is_an_error() {
        let tar = one_file("a", &[("comment", b"x")]);
        for cut in (1..tar.len() - 1024).filter(|cut| cut % 512 != 0) {
            let mut reader = TarReader::new(&tar[..cut], CAPS);
            let outcome = std::iter::from_fn(|| reader.next().transpose()).find_map(Result::err);
            assert!(outcome.is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut tar = one_file("a", &[]);
        tar[0] ^= 1;
        assert!(matches!(TarReader::new(&tar[..], CAPS).next(), Err(TarError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut tar: Vec<u8>, flips in proptest::collection::vec(any::<(usize, u8)>(), 0..6)) {
            let mut whole = one_file("some/file", &[("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"b")]);
            for (at, value) in flips {
                let at = at % whole.len();
                whole[at] = value;
            }
            whole.append(&mut tar);
            let mut reader = TarReader::new(&whole[..], CAPS);
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}

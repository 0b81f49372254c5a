//! CRIU's image files, format 1.1 (read: `image.c`, `protobuf.c`, `magic.h` of CRIU 4.2).
//!
//! An image is two magic numbers, one that all images share and one of its kind (`inventory.img` has only its own),
//! then entries: a 32-bit length and a protobuf message of so many bytes. All integers are little-endian.

mod pagemap;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use prost::Message;
use thiserror::Error;

pub use pagemap::{PAGE_SIZE, PageRun, Place, read_pagemap};

/// The messages in the images, as `proto/criu.proto` defines them.
#[allow(missing_docs)] // generated; the definitions are commented there
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/criu.rs"));
}

/// The largest image that is read whole. Those that are read here hold a few kB.
pub const MAX_IMAGE_BYTES: u64 = 16 << 20;
/// The largest entry, and so what one message may take when decoded, but for a factor.
pub const MAX_ENTRY_BYTES: u32 = 1 << 20;
/// The most entries in one image.
pub const MAX_ENTRIES: usize = 1 << 16;

const COMMON_MAGIC: u32 = 0x5456_4319;

/// What went wrong with an image file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file can't be opened or read.
    #[error("can't read the image {path}: {source}")]
    Read {
        /// The image file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't what its name says.
    #[error("the image {path} is malformed: {source}")]
    Malformed {
        /// The image file.
        path: PathBuf,
        /// Why.
        source: Malformed,
    },
}

/// How bytes fail to be an image of some kind.
#[derive(Debug, Error)]
pub enum Malformed {
    /// The magic numbers are not those of the kind.
    #[error("its magic is not {expected:#010x}: no image of this kind, or one of a CRIU too old")]
    Magic {
        /// The kind's magic.
        expected: u32,
    },
    /// The file ends in the midst of something.
    #[error("it ends early, in entry {entry}")]
    Truncated {
        /// Which entry, from 0.
        entry: usize,
    },
    /// More than this crate is willing to hold.
    #[error("{what} is more than the {limit} that are read")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is accepted.
        limit: u64,
    },
    /// An entry that is no such message.
    #[error("entry {entry}: {source}")]
    Entry {
        /// Which entry, from 0.
        entry: usize,
        /// Why.
        source: prost::DecodeError,
    },
    /// A kind of image that has one entry has another number of them.
    #[error("it has {found} entries instead of one")]
    NotOne {
        /// How many.
        found: usize,
    },
    /// A value that no CRIU writes.
    #[error("entry {entry}: {what}")]
    Value {
        /// Which entry, from 0.
        entry: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// A message that images of one kind consist of.
pub trait Entry: Message + Default {
    /// The magic number of its kind (`magic.h`).
    const MAGIC: u32;
    /// Whether the magic that all images share comes first.
    const COMMON: bool = true;
}

impl Entry for proto::Inventory {
    const MAGIC: u32 = 0x5831_3116;
    const COMMON: bool = false;
}

impl Entry for proto::PstreeEntry {
    const MAGIC: u32 = 0x5027_3030;
}

impl Entry for proto::Core {
    const MAGIC: u32 = 0x5505_3847;
}

impl Entry for proto::TaskIds {
    const MAGIC: u32 = 0x5443_2030;
}

impl Entry for proto::Seccomp {
    const MAGIC: u32 = 0x6441_3049;
}

impl Entry for proto::Mount {
    const MAGIC: u32 = 0x5556_3928;
}

/// Decodes all entries of an image.
pub fn decode<M: Entry>(image: &[u8]) -> Result<Vec<M>, Malformed> {
    let mut entries = Vec::new();
    for body in bodies(image, M::MAGIC, M::COMMON)? {
        let body = body?;
        let entry = entries.len();
        entries.push(M::decode(body).map_err(|source| Malformed::Entry { entry, source })?);
    }
    Ok(entries)
}

/// Decodes an image of exactly one entry.
pub fn decode_one<M: Entry>(image: &[u8]) -> Result<M, Malformed> {
    let mut entries = decode(image)?;
    match (entries.pop(), entries.len()) {
        (Some(only), 0) => Ok(only),
        (last, others) => Err(Malformed::NotOne { found: others + usize::from(last.is_some()) }),
    }
}

/// Writes an image as CRIU does, for tools and tests that alter one. What the messages here leave out is lost.
pub fn encode<M: Entry>(entries: &[M]) -> Vec<u8> {
    let mut image = Vec::new();
    if M::COMMON {
        image.extend(COMMON_MAGIC.to_le_bytes());
    }
    image.extend(M::MAGIC.to_le_bytes());
    for entry in entries {
        let body = entry.encode_to_vec();
        image.extend((body.len() as u32).to_le_bytes());
        image.extend(body);
    }
    image
}

/// Reads all entries of the image `name` in the images' directory.
pub fn read<M: Entry>(dir: &Path, name: &str) -> Result<Vec<M>, ImageError> {
    with_bytes(dir, name, decode)
}

/// Reads an image of exactly one entry.
pub fn read_one<M: Entry>(dir: &Path, name: &str) -> Result<M, ImageError> {
    with_bytes(dir, name, decode_one)
}

/// Reads an image whole, up to [`MAX_IMAGE_BYTES`], and hands its bytes on.
fn with_bytes<T>(
    dir: &Path,
    name: &str,
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T, ImageError> {
    let path = dir.join(name);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut bytes));
    let decoded = match read {
        Err(source) => return Err(ImageError::Read { path, source }),
        Ok(length) if length as u64 > MAX_IMAGE_BYTES => {
            Err(Malformed::TooMuch { what: "its size in bytes", limit: MAX_IMAGE_BYTES })
        }
        Ok(_) => decode(&bytes),
    };
    decoded.map_err(|source| ImageError::Malformed { path, source })
}

/// The entries' bytes, after the magic numbers are found right.
fn bodies(
    image: &[u8],
    magic: u32,
    common: bool,
) -> Result<impl Iterator<Item = Result<&[u8], Malformed>>, Malformed> {
    let mut rest = image;
    let wrong = Malformed::Magic { expected: magic };
    if common && word(&mut rest) != Some(COMMON_MAGIC) || word(&mut rest) != Some(magic) {
        return Err(wrong);
    }
    let mut entry = 0;
    Ok(std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let body = body(&mut rest, entry);
        entry += 1;
        if body.is_err() {
            rest = &[];
        }
        Some(body)
    }))
}

fn body<'a>(rest: &mut &'a [u8], entry: usize) -> Result<&'a [u8], Malformed> {
    if entry == MAX_ENTRIES {
        return Err(Malformed::TooMuch { what: "its number of entries", limit: MAX_ENTRIES as u64 });
    }
    let length = word(rest).ok_or(Malformed::Truncated { entry })?;
    if length > MAX_ENTRY_BYTES {
        return Err(Malformed::TooMuch { what: "an entry's size in bytes", limit: MAX_ENTRY_BYTES.into() });
    }
    let (body, after) = rest.split_at_checked(length as usize).ok_or(Malformed::Truncated { entry })?;
    *rest = after;
    Ok(body)
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    let (word, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::proto::{Inventory, Mount, PstreeEntry};
    use super::*;

    /// An image as CRIU writes it.
    pub(super) fn image(magics: &[u32], entries: &[Vec<u8>]) -> Vec<u8> {
        let mut image: Vec<u8> = magics.iter().flat_map(|magic| magic.to_le_bytes()).collect();
        for entry in entries {
            image.extend((entry.len() as u32).to_le_bytes());
            image.extend(entry);
        }
        image
    }

    #[test]
    fn entries_are_read_in_their_order() {
        let init = PstreeEntry { pid: 1, threads: vec![1, 6], ..Default::default() };
        let child = PstreeEntry { pid: 7, ppid: 1, ..Default::default() };
        let bytes = image(&[COMMON_MAGIC, 0x5027_3030], &[init.encode_to_vec(), child.encode_to_vec()]);
        assert_eq!(encode(&[init.clone(), child.clone()]), bytes);
        assert_eq!(decode::<PstreeEntry>(&bytes).unwrap(), [init, child]);
    }

    #[test]
    fn the_inventory_has_but_its_own_magic() {
        let entry = Inventory { img_version: 2, ..Default::default() };
        let bytes = image(&[0x5831_3116], &[entry.encode_to_vec()]);
        assert_eq!(decode_one::<Inventory>(&bytes).unwrap(), entry);
    }

    #[test]
    fn another_kind_is_refused() {
        let bytes = image(&[COMMON_MAGIC, 0x5027_3030], &[]);
        assert!(matches!(decode::<Mount>(&bytes), Err(Malformed::Magic { expected: 0x5556_3928 })));
    }

    #[test]
    fn a_length_beyond_the_end_or_the_cap_is_refused() {
        let mut bytes = image(&[COMMON_MAGIC, 0x5027_3030], &[]);
        bytes.extend(100_u32.to_le_bytes());
        assert!(matches!(decode::<PstreeEntry>(&bytes), Err(Malformed::Truncated { entry: 0 })));
        bytes.truncate(8);
        bytes.extend(u32::MAX.to_le_bytes());
        assert!(matches!(decode::<PstreeEntry>(&bytes), Err(Malformed::TooMuch { .. })));
    }

    #[test]
    fn one_entry_means_one() {
        let bytes = image(&[0x5831_3116], &[vec![], vec![]]);
        assert!(matches!(decode_one::<Inventory>(&bytes), Err(Malformed::NotOne { found: 2 })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut body: Vec<u8>) {
            let _ = decode::<Mount>(&body);
            let mut bytes = image(&[COMMON_MAGIC, 0x5556_3928], &[]);
            bytes.append(&mut body);
            let _ = decode::<Mount>(&bytes);
        }

        #[test]
        fn any_entry_is_read_or_refused(entry: Vec<u8>) {
            let bytes = image(&[COMMON_MAGIC, 0x5505_3847], &[entry]);
            let _ = decode::<proto::Core>(&bytes);
        }
    }
}

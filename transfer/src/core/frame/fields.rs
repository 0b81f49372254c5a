//! Reading and writing the fields of a frame's body.

use blake3::Hash;

use super::super::path::{BadPath, PathError, TreePath};
use super::{FrameError, Prefix};

/// Takes fields off the front of a body.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    pub fn u8(&mut self) -> Result<u8, FrameError> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, FrameError> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, FrameError> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn hash(&mut self) -> Result<Hash, FrameError> {
        self.array().map(Hash::from_bytes)
    }

    pub fn path(&mut self) -> Result<TreePath, FrameError> {
        let length = usize::from(self.u16()?);
        let (path, rest) = self.0.split_at_checked(length).ok_or(FrameError::Truncated)?;
        self.0 = rest;
        match std::str::from_utf8(path) {
            Ok(path) => Ok(TreePath::new(path)?),
            Err(_) => Err(PathError {
                path: String::from_utf8_lossy(path).chars().take(80).collect(),
                why: BadPath::NotUtf8,
            }
            .into()),
        }
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), FrameError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(FrameError::Trailing { bytes }),
        }
    }
}

pub(super) fn put_path(out: &mut Vec<u8>, path: &TreePath) {
    // A path has at most 512 bytes.
    out.extend((path.as_str().len() as u16).to_le_bytes());
    out.extend(path.as_str().as_bytes());
}

/// Appends a frame whose body `fill` writes.
pub(super) fn put_frame(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([tag, 0, 0]);
    fill(out);
    let body = out.len() - start - Prefix::BYTES;
    debug_assert!(u16::try_from(body).is_ok(), "frame {tag:#04x} has {body} bytes");
    out[start + 1..start + Prefix::BYTES].copy_from_slice(&(body as u16).to_le_bytes());
}

//! Frames of a lane: entries and their chunks.

use blake3::{Hash, OUT_LEN};

use super::super::chunk::{CHUNK_BYTES, ChunkHeader, Encoding, EntryId};
use super::super::path::{MAX_PATH_BYTES, TreePath};
use super::super::tree::{EntryKind, FILE};
use super::fields::{Fields, put_frame, put_path};
use super::{Frame, FrameError};

const ALIVE: u8 = 0x20;
const ANNOUNCE: u8 = 0x21;
const CHUNK: u8 = 0x22;
const FINISH: u8 = 0x23;

/// What the sender says on a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lane {
    /// Nothing to send yet, but the sender is there: said when it would else be silent for
    /// [`ALIVE_INTERVAL`](super::ALIVE_INTERVAL).
    Alive,
    /// Chunks of this entry will follow. Its size isn't known yet: it may still grow.
    Announce {
        /// Its number from here on.
        entry: EntryId,
        /// Where it lies.
        path: TreePath,
        /// What it is.
        kind: EntryKind,
    },
    /// A chunk; its payload follows the frame.
    Chunk(ChunkHeader),
    /// All of the entry has been sent.
    Finish {
        /// The entry.
        entry: EntryId,
        /// Its bytes.
        size: u64,
        /// [`entry_hash`](crate::core::tree::entry_hash) of its content.
        hash: Hash,
    },
}

impl Frame for Lane {
    fn cap(tag: u8) -> Option<usize> {
        match tag {
            ALIVE => Some(0),
            ANNOUNCE => Some(4 + 1 + 4 + 2 + MAX_PATH_BYTES),
            CHUNK => Some(4 + 4 + 4 + 1 + 4 + OUT_LEN),
            FINISH => Some(4 + 8 + OUT_LEN),
            _ => None,
        }
    }

    fn decode(tag: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(body);
        let frame = match tag {
            ALIVE => Self::Alive,
            ANNOUNCE => Self::Announce {
                entry: EntryId(fields.u32()?),
                kind: decode_kind(&mut fields)?,
                path: fields.path()?,
            },
            CHUNK => Self::Chunk(decode_chunk(&mut fields)?),
            FINISH => {
                Self::Finish { entry: EntryId(fields.u32()?), size: fields.u64()?, hash: fields.hash()? }
            }
            _ => return Err(FrameError::Tag { tag }),
        };
        fields.end()?;
        Ok(frame)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Alive => put_frame(out, ALIVE, |_| {}),
            Self::Announce { entry, path, kind } => put_frame(out, ANNOUNCE, |out| {
                let EntryKind::File { mode } = kind;
                out.extend(entry.0.to_le_bytes());
                out.push(FILE);
                out.extend(mode.to_le_bytes());
                put_path(out, path);
            }),
            Self::Chunk(chunk) => put_frame(out, CHUNK, |out| {
                out.extend(chunk.entry.0.to_le_bytes());
                out.extend(chunk.index.to_le_bytes());
                out.extend(chunk.length.to_le_bytes());
                out.push(encoding_tag(chunk.encoding));
                out.extend(chunk.payload().to_le_bytes());
                out.extend(chunk.hash.as_bytes());
            }),
            Self::Finish { entry, size, hash } => put_frame(out, FINISH, |out| {
                out.extend(entry.0.to_le_bytes());
                out.extend(size.to_le_bytes());
                out.extend(hash.as_bytes());
            }),
        }
    }
}

fn decode_kind(fields: &mut Fields<'_>) -> Result<EntryKind, FrameError> {
    match fields.u8()? {
        FILE => match fields.u32()? {
            mode @ 0..=0o777 => Ok(EntryKind::File { mode }),
            mode => Err(FrameError::Value { field: "mode", value: mode.into() }),
        },
        kind => Err(FrameError::Value { field: "kind", value: kind.into() }),
    }
}

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const ZERO: u8 = 2;
const HELD: u8 = 3;

fn encoding_tag(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Raw => RAW,
        Encoding::Zstd { .. } => ZSTD,
        Encoding::Zero => ZERO,
        Encoding::Held => HELD,
    }
}

fn decode_chunk(fields: &mut Fields<'_>) -> Result<ChunkHeader, FrameError> {
    let (entry, index, length) = (EntryId(fields.u32()?), fields.u32()?, fields.u32()?);
    if length == 0 || length > CHUNK_BYTES as u32 {
        return Err(FrameError::Value { field: "length", value: length.into() });
    }
    let (tag, payload) = (fields.u8()?, fields.u32()?);
    let encoding = match (tag, payload) {
        (RAW, payload) if payload == length => Encoding::Raw,
        (ZSTD, payload) if payload > 0 && payload < length => Encoding::Zstd { payload },
        (ZERO, 0) => Encoding::Zero,
        (HELD, 0) => Encoding::Held,
        (RAW..=HELD, payload) => return Err(FrameError::Value { field: "payload", value: payload.into() }),
        (tag, _) => return Err(FrameError::Value { field: "encoding", value: tag.into() }),
    };
    Ok(ChunkHeader { entry, index, length, encoding, hash: fields.hash()? })
}

#[cfg(test)]
pub(super) fn strategy() -> impl proptest::strategy::Strategy<Value = Lane> {
    use proptest::prelude::*;

    let hash = || any::<[u8; OUT_LEN]>().prop_map(Hash::from_bytes);
    let encoding = |length: u32| {
        prop_oneof![
            Just(Encoding::Raw),
            (1..length.max(2)).prop_map(move |payload| {
                if payload < length { Encoding::Zstd { payload } } else { Encoding::Raw }
            }),
            Just(Encoding::Zero),
            Just(Encoding::Held),
        ]
    };
    prop_oneof![
        Just(Lane::Alive),
        (any::<u32>(), "[a-z]{1,200}", 0..0o1000u32).prop_filter_map("a path", |(entry, path, mode)| {
            let path = TreePath::new(&path).ok()?;
            Some(Lane::Announce { entry: EntryId(entry), path, kind: EntryKind::File { mode } })
        }),
        (
            any::<u32>(),
            any::<u32>(),
            (1..=CHUNK_BYTES as u32).prop_flat_map(move |l| (Just(l), encoding(l))),
            hash()
        )
            .prop_map(|(entry, index, (length, encoding), hash)| Lane::Chunk(ChunkHeader {
                entry: EntryId(entry),
                index,
                length,
                encoding,
                hash
            })),
        (any::<u32>(), any::<u64>(), hash()).prop_map(|(entry, size, hash)| Lane::Finish {
            entry: EntryId(entry),
            size,
            hash
        }),
    ]
}

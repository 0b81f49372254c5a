//! Frames of the first stream: what the sender says of the whole transfer, and what the receiver answers.

use blake3::{Hash, OUT_LEN};
use bytes::Bytes;

use super::super::path::{MAX_PATH_BYTES, TreePath};
use super::fields::{Fields, put_frame, put_path};
use super::{Frame, FrameError};

/// Longest ticket, in bytes.
pub const MAX_TICKET_BYTES: usize = 4096;
/// Most hashes in one [`Answer::Held`].
pub const MAX_HELD_PER_FRAME: usize = 1024;

const OPEN: u8 = 0x01;
const SEAL: u8 = 0x02;

/// What the sender says on the first stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// The first frame: why the receiver should take this tree.
    Open {
        /// Opaque here; the receiving application knows what it means.
        ticket: Bytes,
    },
    /// The last frame: what the tree is.
    Seal(Seal),
}

/// The sender's word on the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    /// [`root`](crate::core::tree::root) over all entries.
    pub root: Hash,
    /// How many entries there are.
    pub entries: u32,
    /// The sum of their sizes.
    pub bytes: u64,
    /// How many lanes the sender opened: the receiver waits for the end of each.
    pub lanes: u16,
}

impl Frame for Control {
    fn cap(tag: u8) -> Option<usize> {
        match tag {
            OPEN => Some(MAX_TICKET_BYTES),
            SEAL => Some(OUT_LEN + 4 + 8 + 2),
            _ => None,
        }
    }

    fn decode(tag: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(body);
        match tag {
            OPEN => Ok(Self::Open { ticket: Bytes::copy_from_slice(fields.rest()) }),
            SEAL => {
                let seal = Seal {
                    root: fields.hash()?,
                    entries: fields.u32()?,
                    bytes: fields.u64()?,
                    lanes: fields.u16()?,
                };
                fields.end()?;
                Ok(Self::Seal(seal))
            }
            _ => Err(FrameError::Tag { tag }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open { ticket } => put_frame(out, OPEN, |out| out.extend(ticket)),
            Self::Seal(seal) => put_frame(out, SEAL, |out| {
                out.extend(seal.root.as_bytes());
                out.extend(seal.entries.to_le_bytes());
                out.extend(seal.bytes.to_le_bytes());
                out.extend(seal.lanes.to_le_bytes());
            }),
        }
    }
}

const HELD: u8 = 0x11;
const ACCEPTED: u8 = 0x12;
const SEALED: u8 = 0x13;

/// What the receiver says on the first stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A run of chunks that it holds already, from an earlier try.
    Held {
        /// The entry, by its path: numbers are given out anew for each connection.
        path: TreePath,
        /// Index of the run's first chunk.
        first: u32,
        /// The chunks' hashes: 1 to [`MAX_HELD_PER_FRAME`].
        hashes: Vec<Hash>,
    },
    /// The application accepted the ticket, and all that is held has been said.
    Accepted,
    /// Everything is there, verified and in its place.
    Sealed {
        /// The root as the receiver computed it.
        root: Hash,
    },
}

impl Frame for Answer {
    fn cap(tag: u8) -> Option<usize> {
        match tag {
            HELD => Some(2 + MAX_PATH_BYTES + 4 + MAX_HELD_PER_FRAME * OUT_LEN),
            ACCEPTED => Some(0),
            SEALED => Some(OUT_LEN),
            _ => None,
        }
    }

    fn decode(tag: u8, body: &[u8]) -> Result<Self, FrameError> {
        let mut fields = Fields(body);
        match tag {
            HELD => {
                let (path, first) = (fields.path()?, fields.u32()?);
                let (hashes, odd) = fields.rest().as_chunks::<OUT_LEN>();
                if !odd.is_empty() {
                    return Err(FrameError::Truncated);
                }
                if hashes.is_empty() || hashes.len() > MAX_HELD_PER_FRAME {
                    return Err(FrameError::Value { field: "hashes", value: hashes.len() as u64 });
                }
                Ok(Self::Held {
                    path,
                    first,
                    hashes: hashes.iter().map(|hash| Hash::from_bytes(*hash)).collect(),
                })
            }
            ACCEPTED => fields.end().map(|()| Self::Accepted),
            SEALED => {
                let root = fields.hash()?;
                fields.end()?;
                Ok(Self::Sealed { root })
            }
            _ => Err(FrameError::Tag { tag }),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Held { path, first, hashes } => put_frame(out, HELD, |out| {
                put_path(out, path);
                out.extend(first.to_le_bytes());
                hashes.iter().for_each(|hash| out.extend(hash.as_bytes()));
            }),
            Self::Accepted => put_frame(out, ACCEPTED, |_| {}),
            Self::Sealed { root } => put_frame(out, SEALED, |out| out.extend(root.as_bytes())),
        }
    }
}

#[cfg(test)]
pub(super) use strategies::{answer_strategy, strategy};

#[cfg(test)]
mod strategies {
    use super::*;
    use proptest::prelude::*;

    fn hash() -> impl Strategy<Value = Hash> {
        any::<[u8; OUT_LEN]>().prop_map(Hash::from_bytes)
    }

    /// One to eight of them, or as many as there can be.
    fn few_or_most<T: Strategy>(item: T, most: usize) -> impl Strategy<Value = Vec<T::Value>> {
        prop_oneof![8 => 1..9usize, 1 => Just(most)].prop_flat_map({
            let item = std::sync::Arc::new(item);
            move |count| prop::collection::vec(std::sync::Arc::clone(&item), count)
        })
    }

    pub fn strategy() -> impl Strategy<Value = Control> {
        prop_oneof![
            few_or_most(any::<u8>(), MAX_TICKET_BYTES)
                .prop_map(|ticket| Control::Open { ticket: ticket.into() }),
            (hash(), any::<u32>(), any::<u64>(), any::<u16>()).prop_map(|(root, entries, bytes, lanes)| {
                Control::Seal(Seal { root, entries, bytes, lanes })
            }),
        ]
    }

    pub fn answer_strategy() -> impl Strategy<Value = Answer> {
        prop_oneof![
            ("[a-z/]{1,500}x", any::<u32>(), few_or_most(hash(), MAX_HELD_PER_FRAME)).prop_filter_map(
                "a path",
                |(path, first, hashes)| Some(Answer::Held {
                    path: TreePath::new(&path).ok()?,
                    first,
                    hashes
                })
            ),
            Just(Answer::Accepted),
            hash().prop_map(|root| Answer::Sealed { root }),
        ]
    }
}

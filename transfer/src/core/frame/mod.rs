//! What passes between the two ends, byte for byte.
//!
//! ```text
//! sender                                                         receiver
//!   | bidirectional stream: preface, Open{ticket} ------------------> |   the application looks at peer and ticket
//!   | <------------------------------ preface, Held{..}*, Accepted    |   or closes with a code
//!   |                                                                 |
//!   | lane (unidirectional stream, one or more, in parallel):         |
//!   |   Announce, (Chunk, payload)*, Finish, .. of many entries ----> |   each chunk verified, then placed
//!   |   or Alive, while there is nothing to send                      |
//!   |                                                                 |
//!   | on the first stream: Seal{root, entries, bytes, lanes} -------> |   all lanes at their end, root compared
//!   | <-------------------------------------------------- Sealed{root}|
//!   | close(Done) --------------------------------------------------> |
//! ```
//!
//! An entry is announced, sent and finished on one lane, so order between lanes means nothing. Chunks of an entry come
//! in any order.
//!
//! A frame is a tag (1 byte), the length of its body (2 bytes) and the body; integers are little-endian. Every tag has
//! a cap on its body, which is checked before anything is allocated. Only a chunk is followed by more: its payload,
//! whose length its frame states.

mod control;
mod fields;
mod lane;

pub use control::{Answer, Control, MAX_HELD_PER_FRAME, MAX_TICKET_BYTES, Seal};
pub use lane::Lane;

use std::time::Duration;

use super::path::PathError;

/// The version of the protocol that this crate speaks. Another one is refused with
/// [`CloseCode::Version`](super::close::CloseCode::Version).
pub const VERSION: u16 = 1;

/// A sender that has nothing to send says so this often on every lane.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// The first bytes of either direction of the first stream.
pub const PREFACE: [u8; 10] = {
    let [low, high] = VERSION.to_le_bytes();
    [b't', b'r', b'a', b'n', b's', b'h', b'i', b'p', low, high]
};

/// Checks the other end's preface.
pub fn check_preface(preface: [u8; PREFACE.len()]) -> Result<(), FrameError> {
    let [magic @ .., low, high] = preface;
    if magic != PREFACE[..8] {
        return Err(FrameError::Magic);
    }
    match u16::from_le_bytes([low, high]) {
        VERSION => Ok(()),
        theirs => Err(FrameError::Version { theirs }),
    }
}

/// A family of frames: those that one direction of one kind of stream may carry.
pub trait Frame: Sized {
    /// Most bytes in the body of a frame with this tag; `None` for a tag that isn't of the family.
    fn cap(tag: u8) -> Option<usize>;

    /// Reads the body of a frame.
    fn decode(tag: u8, body: &[u8]) -> Result<Self, FrameError>;

    /// Appends the whole frame to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// The bytes before a frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Which frame it is.
    pub tag: u8,
    /// Bytes of its body; at most the cap of its tag.
    pub body: usize,
}

impl Prefix {
    /// Bytes of a prefix on the wire.
    pub const BYTES: usize = 3;

    /// Reads a prefix of a frame of the family `F` and holds it against the cap.
    pub fn decode<F: Frame>([tag, low, high]: [u8; Self::BYTES]) -> Result<Self, FrameError> {
        let body = usize::from(u16::from_le_bytes([low, high]));
        let cap = F::cap(tag).ok_or(FrameError::Tag { tag })?;
        if body > cap { Err(FrameError::Oversize { tag, body, cap }) } else { Ok(Self { tag, body }) }
    }
}

/// Bytes that aren't a frame of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The stream begins with something else.
    #[error("the other end doesn't speak transship's transfer protocol")]
    Magic,
    /// Same protocol, other version.
    #[error(
        "the other end speaks version {theirs} of the transfer protocol, this one version {VERSION}: upgrade the older"
    )]
    Version {
        /// What it speaks.
        theirs: u16,
    },
    /// A tag that has no place on this stream.
    #[error("frame tag {tag:#04x} has no place on this stream")]
    Tag {
        /// The tag.
        tag: u8,
    },
    /// The body is longer than a frame of this kind can be.
    #[error("frame {tag:#04x} says it has {body} bytes, its cap is {cap}")]
    Oversize {
        /// The frame's tag.
        tag: u8,
        /// The length that it states.
        body: usize,
        /// The most that it may.
        cap: usize,
    },
    /// The body ended before its last field.
    #[error("a frame ends within its fields")]
    Truncated,
    /// The body goes on after its last field.
    #[error("a frame goes on for {bytes} bytes after its fields")]
    Trailing {
        /// How many bytes are too many.
        bytes: usize,
    },
    /// A field holds a value that it can't have.
    #[error("field {field} of a frame can't be {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// An entry's path isn't one.
    #[error(transparent)]
    Path(#[from] PathError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefaces_of_others_are_told_apart() {
        assert_eq!(check_preface(PREFACE), Ok(()));
        assert_eq!(check_preface(*b"GET / HTTP"), Err(FrameError::Magic));
        assert_eq!(check_preface(*b"transhop\x01\x00"), Err(FrameError::Magic));
        let mut newer = PREFACE;
        newer[8] = 2;
        assert_eq!(check_preface(newer), Err(FrameError::Version { theirs: 2 }));
    }

    /// Decodes what `bytes` claim to be, the way a stream is read.
    fn decode<F: Frame>(bytes: &[u8]) -> Result<(F, &[u8]), FrameError> {
        let (prefix, rest) = bytes.split_first_chunk().ok_or(FrameError::Truncated)?;
        let prefix = Prefix::decode::<F>(*prefix)?;
        let (body, rest) = rest.split_at_checked(prefix.body).ok_or(FrameError::Truncated)?;
        Ok((F::decode(prefix.tag, body)?, rest))
    }

    /// Whatever is decoded is encoded to the same bytes: there is one way to say a thing.
    fn one_way_to_say<F: Frame>(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Ok((frame, rest)) = decode::<F>(bytes) {
            let mut again = Vec::new();
            frame.encode(&mut again);
            prop_assert_eq!(&again, &bytes[..bytes.len() - rest.len()]);
        }
        Ok(())
    }

    /// A prefix that is right and a body that is anything: gets further than noise does.
    fn tagged() -> impl Strategy<Value = Vec<u8>> {
        (prop_oneof![0x01..0x04u8, 0x11..0x14u8, 0x20..0x24u8], prop::collection::vec(any::<u8>(), 0..90))
            .prop_map(|(tag, body)| {
                let mut frame = vec![tag];
                frame.extend((body.len() as u16).to_le_bytes());
                frame.extend(body);
                frame
            })
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), tagged()]) {
            one_way_to_say::<Control>(&bytes)?;
            one_way_to_say::<Answer>(&bytes)?;
            one_way_to_say::<Lane>(&bytes)?;
        }

        #[test]
        fn control_frames_come_back(frame in control::strategy()) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(decode::<Control>(&bytes), Ok((frame, &[][..])));
        }

        #[test]
        fn answers_come_back(frame in control::answer_strategy()) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(decode::<Answer>(&bytes), Ok((frame, &[][..])));
        }

        #[test]
        fn lane_frames_come_back(frame in lane::strategy()) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(decode::<Lane>(&bytes), Ok((frame, &[][..])));
        }

        #[test]
        fn no_prefix_asks_for_more_than_its_cap(prefix: [u8; 3]) {
            for read in [Prefix::decode::<Control>(prefix), Prefix::decode::<Answer>(prefix), Prefix::decode::<Lane>(prefix)]
                .into_iter()
                .flatten()
            {
                prop_assert!(read.body <= 34 * 1024);
            }
        }
    }
}

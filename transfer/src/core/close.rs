//! Why a connection was closed, as a number that both ends understand.

use std::fmt;

/// The reason for a close: the application error code of QUIC's CONNECTION_CLOSE (RFC 9000, section 19.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0: the tree was verified; nothing is left to say.
    Done,
    /// 1: the application gave up.
    Cancelled,
    /// 2: the other end speaks another version of the protocol.
    Version,
    /// 3: a frame couldn't be decoded.
    BadFrame,
    /// 4: a frame that is well-formed isn't allowed where it came.
    OutOfPlace,
    /// 5: more bytes, entries or streams than the receiver takes.
    TooMuch,
    /// 6: a chunk's bytes don't have the hash that its frame promised.
    BadChunk,
    /// 7: an entry or the root isn't what the sender sealed.
    BadSeal,
    /// 8: no space left where the receiver places the tree.
    TargetFull,
    /// 9: the receiver couldn't place the tree for another reason.
    StoreFailed,
    /// 10: nothing was heard for too long.
    Silent,
    /// 11: the endpoint shuts down.
    ShuttingDown,
    /// 0x1_0000 and up: the receiving application refused the ticket; what the number says is its own matter.
    Refused(u16),
    /// A code that this version doesn't know.
    Unknown(u64),
}

const REFUSED: u64 = 0x1_0000;

impl CloseCode {
    /// The number on the wire: below 2^62.
    pub fn to_wire(self) -> u64 {
        match self {
            Self::Done => 0,
            Self::Cancelled => 1,
            Self::Version => 2,
            Self::BadFrame => 3,
            Self::OutOfPlace => 4,
            Self::TooMuch => 5,
            Self::BadChunk => 6,
            Self::BadSeal => 7,
            Self::TargetFull => 8,
            Self::StoreFailed => 9,
            Self::Silent => 10,
            Self::ShuttingDown => 11,
            Self::Refused(code) => REFUSED + u64::from(code),
            Self::Unknown(code) => code,
        }
    }

    /// The reason that the number `code` stands for.
    pub fn from_wire(code: u64) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Cancelled,
            2 => Self::Version,
            3 => Self::BadFrame,
            4 => Self::OutOfPlace,
            5 => Self::TooMuch,
            6 => Self::BadChunk,
            7 => Self::BadSeal,
            8 => Self::TargetFull,
            9 => Self::StoreFailed,
            10 => Self::Silent,
            11 => Self::ShuttingDown,
            _ => match code.checked_sub(REFUSED).map(u16::try_from) {
                Some(Ok(refused)) => Self::Refused(refused),
                _ => Self::Unknown(code),
            },
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} (code {})", self.to_wire())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_code_comes_back(code in prop_oneof![0..20u64, 0xff00..0x2_0100u64, any::<u64>()]) {
            prop_assert_eq!(CloseCode::from_wire(code).to_wire(), code);
        }
    }
}

//! Names that become file names, and are therefore checked before they are anything else.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name accepted, in bytes. A Pod's UID has 36, containerd's container ids have 64.
const LONGEST: usize = 128;

/// A name that can't be used as a file name of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} is not usable: 1 to {LONGEST} of [A-Za-z0-9._-], not beginning with a dot")]
pub struct InvalidId {
    kind: &'static str,
    name: String,
}

/// Letters, digits, `.`, `_` and `-`; no leading dot, so neither `..` nor the name of a temporary file.
fn is_file_name_safe(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

macro_rules! file_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text; safe as a file name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(name: &str) -> Result<Self, InvalidId> {
                if is_file_name_safe(name) {
                    Ok(Self(name.to_owned()))
                } else {
                    Err(InvalidId { kind: $kind, name: name.chars().take(LONGEST).collect() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(name: String) -> Result<Self, InvalidId> {
                name.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

file_name! {
    /// One migration, the same on both nodes; made by whoever starts it and never used again.
    MigrationId, "migration id"
}
file_name! {
    /// The UID of a Pod sandbox as the container runtime was given it (`io.kubernetes.pod.uid`).
    PodUid, "Pod UID"
}
file_name! {
    /// The id of a container as the OCI runtime knows it.
    ContainerId, "container id"
}

/// The hash (BLAKE3) that seals the tree of one migration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Root(pub [u8; 32]);

/// Text that isn't 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a root is 64 hexadecimal digits: {0}")]
pub struct InvalidRoot(#[from] hex::FromHexError);

impl FromStr for Root {
    type Err = InvalidRoot;

    fn from_str(text: &str) -> Result<Self, InvalidRoot> {
        let mut root = [0; 32];
        hex::decode_to_slice(text, &mut root)?;
        Ok(Self(root))
    }
}

impl TryFrom<String> for Root {
    type Error = InvalidRoot;

    fn try_from(text: String) -> Result<Self, InvalidRoot> {
        text.parse()
    }
}

impl From<Root> for String {
    fn from(root: Root) -> String {
        hex::encode(root.0)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_leave_its_folder_is_no_name() {
        for bad in ["", ".", "..", ".hidden", "a/b", "../x", "a\0b", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<PodUid>().is_err(), "{bad:?} was accepted");
        }
        for good in ["3f2a-9", "a", "A.b_c-d", &"x".repeat(128)] {
            assert_eq!(good.parse::<PodUid>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_root_reads_back_as_it_was_written() {
        let root = Root([0xa5; 32]);
        assert_eq!(root.to_string().parse::<Root>().unwrap(), root);
        assert!("a5".parse::<Root>().is_err());
        assert!(serde_json::from_str::<Root>("\"zz\"").is_err());
    }
}

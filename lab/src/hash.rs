//! Names for things that are made from a recipe and cached.

use sha2::{Digest, Sha256};

/// A short hash over all parts of a recipe, each with its length.
pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut name = hex(&hasher.finalize());
    name.truncate(16);
    name
}

/// Lower-case hexadecimal, as OCI digests want it.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Entries and the root over them.

use blake3::{Hash, Hasher};

use super::path::TreePath;

/// What an entry is.
///
/// Only files so far. Memory windows of an address space fit beside them: an entry whose chunks are windows of
/// virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its permission bits (`& 0o777`; others are refused).
        mode: u32,
    },
}

/// An entry of a tree whose content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lies.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// Its bytes.
    pub size: u64,
    /// [`entry_hash`] of its content.
    pub hash: Hash,
}

/// The hash of an entry's content: its size and its chunks' hashes in order.
pub fn entry_hash<'a>(size: u64, chunks: impl IntoIterator<Item = &'a Hash>) -> Hash {
    let mut hasher = Hasher::new_derive_key("transship.io 2026 transfer/1 entry");
    hasher.update(&size.to_le_bytes());
    for chunk in chunks {
        hasher.update(chunk.as_bytes());
    }
    hasher.finalize()
}

/// The one hash that stands for the tree: over every entry's path, kind, size and content.
///
/// `entries` in any order; they are sorted by path. Each field has a fixed or a stated length, so no two trees give
/// the hasher the same bytes.
pub fn root(entries: &mut [Entry]) -> Hash {
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Hasher::new_derive_key("transship.io 2026 transfer/1 root");
    hasher.update(&(entries.len() as u64).to_le_bytes());
    for Entry { path, kind, size, hash } in entries {
        let EntryKind::File { mode } = kind;
        hasher.update(&(path.as_str().len() as u64).to_le_bytes());
        hasher.update(path.as_str().as_bytes());
        hasher.update(&[FILE]);
        hasher.update(&mode.to_le_bytes());
        hasher.update(&size.to_le_bytes());
        hasher.update(hash.as_bytes());
    }
    hasher.finalize()
}

/// The kind byte of a file, in frames and under the root.
pub(crate) const FILE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, size: u64) -> Entry {
        Entry {
            path: TreePath::new(path).unwrap(),
            kind: EntryKind::File { mode: 0o600 },
            size,
            hash: entry_hash(size, &[blake3::hash(path.as_bytes())]),
        }
    }

    #[test]
    fn the_root_depends_on_everything_but_the_order() {
        let tree = || vec![entry("a", 1), entry("b", 2)];
        let expected = root(&mut tree());
        let mut turned = tree();
        turned.reverse();
        assert_eq!(root(&mut turned), expected);

        let changes: [fn(&mut Vec<Entry>); 5] = [
            |tree| tree[0].size = 2,
            |tree| tree[0].kind = EntryKind::File { mode: 0o644 },
            |tree| tree[0].path = TreePath::new("c").unwrap(),
            |tree| tree[1].hash = blake3::hash(b"else"),
            |tree| tree.truncate(1),
        ];
        for change in changes {
            let mut changed = tree();
            change(&mut changed);
            assert_ne!(root(&mut changed), expected);
        }
    }

    #[test]
    fn an_entry_is_no_chunk_and_no_root() {
        assert_ne!(entry_hash(0, []), blake3::hash(b""));
        assert_ne!(entry_hash(0, []), root(&mut []));
    }
}

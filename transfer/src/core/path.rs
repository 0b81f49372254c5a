//! Where an entry lies in its tree.

use std::fmt;
use std::sync::Arc;

/// Longest path, in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// Longest component of a path, in bytes (`NAME_MAX` of Linux).
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Most components in a path.
pub const MAX_DEPTH: usize = 16;

/// A relative path of plain names, `/` between them: it can't leave the directory that it is put under.
///
/// Cheap to clone. Ordered by its bytes, which is the order of entries under the root hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Arc<str>);

impl TreePath {
    /// Checks `path` and takes it over.
    pub fn new(path: &str) -> Result<Self, PathError> {
        let refuse = |why| Err(PathError { path: shown(path), why });
        if path.is_empty() {
            return refuse(BadPath::Empty);
        }
        if path.len() > MAX_PATH_BYTES {
            return refuse(BadPath::TooLong);
        }
        if path.starts_with('/') {
            return refuse(BadPath::Absolute);
        }
        if path.contains('\0') {
            return refuse(BadPath::Nul);
        }
        if path.split('/').count() > MAX_DEPTH {
            return refuse(BadPath::TooDeep);
        }
        for component in path.split('/') {
            if matches!(component, "" | "." | "..") || component.len() > MAX_COMPONENT_BYTES {
                return refuse(BadPath::Component);
            }
        }
        Ok(Self(path.into()))
    }

    /// The path as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its names, outermost first. There is at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A path that can't be an entry's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} can't be the path of an entry: {why}")]
pub struct PathError {
    /// The path, shortened to what fits into a log line.
    pub path: String,
    /// What is wrong with it.
    pub why: BadPath,
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It has no bytes.
    #[error("it is empty")]
    Empty,
    /// It has more than [`MAX_PATH_BYTES`].
    #[error("it is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// It has more than [`MAX_DEPTH`] components.
    #[error("it is deeper than {MAX_DEPTH} names")]
    TooDeep,
    /// It begins with `/`.
    #[error("it is absolute")]
    Absolute,
    /// It holds a NUL byte.
    #[error("it holds a NUL byte")]
    Nul,
    /// A component is empty, `.`, `..` or longer than [`MAX_COMPONENT_BYTES`].
    #[error("one of its names is empty, \".\", \"..\" or longer than {MAX_COMPONENT_BYTES} bytes")]
    Component,
    /// It isn't UTF-8.
    #[error("it isn't UTF-8")]
    NotUtf8,
}

/// At most 80 characters of `path`, for messages.
pub(crate) fn shown(path: &str) -> String {
    path.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_relative_paths_are_taken() {
        for path in ["pages-1.img", "a/b/c", "..a", "a..", "...", " ", "ünï/cödé"] {
            assert_eq!(TreePath::new(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn whatever_could_leave_the_tree_is_refused() {
        let cases = [
            ("", BadPath::Empty),
            ("/", BadPath::Absolute),
            ("/etc/passwd", BadPath::Absolute),
            ("..", BadPath::Component),
            ("a/../../b", BadPath::Component),
            ("a/./b", BadPath::Component),
            ("a//b", BadPath::Component),
            ("a/", BadPath::Component),
            ("a\0b", BadPath::Nul),
        ];
        for (path, why) in cases {
            assert_eq!(TreePath::new(path).unwrap_err().why, why, "{path:?}");
        }
        assert_eq!(TreePath::new(&"a/".repeat(20)).unwrap_err().why, BadPath::TooDeep);
        assert_eq!(TreePath::new(&"a".repeat(256)).unwrap_err().why, BadPath::Component);
        assert_eq!(TreePath::new(&"a".repeat(513)).unwrap_err().why, BadPath::TooLong);
    }

    proptest! {
        #[test]
        fn a_path_that_is_taken_stays_below(path in "[a./\\PC]{0,40}") {
            if let Ok(path) = TreePath::new(&path) {
                let below = std::path::Path::new("/base").join(path.as_str());
                prop_assert!(below.starts_with("/base"));
                prop_assert!(below.components().all(|c| c != std::path::Component::ParentDir));
            }
        }
    }
}

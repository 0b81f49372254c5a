//! Extended attributes of a file by its path, links not followed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::{self, Errno};

/// As long as a list of names can be (`XATTR_LIST_MAX`).
const MAX_LIST: usize = 64 << 10;
/// As long as a value can be (`XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 64 << 10;

/// Extended attributes with their values, in the order of their names.
pub(super) type Xattrs = Vec<(OsString, Vec<u8>)>;

/// What belongs to the node and not to the tree: the overlay's own attributes, and the label that the node's security
/// module gives.
fn is_the_nodes(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == b"security.selinux"
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let mut list = Vec::with_capacity(MAX_LIST);
    match llistxattr(path, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut names: Vec<OsString> = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// All attributes that belong to the tree.
pub(super) fn read(path: &Path) -> io::Result<Xattrs> {
    let mut xattrs = Vec::new();
    for name in names(path)?.into_iter().filter(|name| !is_the_nodes(name)) {
        let value = value(path, &name)?;
        xattrs.push((name, value));
    }
    Ok(xattrs)
}

fn value(path: &Path, name: &OsStr) -> io::Result<Vec<u8>> {
    let mut value = Vec::with_capacity(MAX_VALUE);
    lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value))?;
    Ok(value)
}

/// An attribute of the overlay, whose name begins with `user.` where it is mounted without privileges.
pub(super) fn of_overlay(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    for space in ["trusted", "user"] {
        match value(path, OsStr::new(&format!("{space}.overlay.{name}"))) {
            Ok(value) => return Ok(Some(value)),
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Makes these the only attributes that belong to the tree.
pub(super) fn write(path: &Path, xattrs: &Xattrs) -> io::Result<()> {
    // A directory's default access list gives its new children one that they didn't have.
    for name in names(path)?.into_iter().filter(|name| !is_the_nodes(name)) {
        if !xattrs.iter().any(|(wanted, _)| *wanted == name) {
            lremovexattr(path, &name)?;
        }
    }
    for (name, value) in xattrs.iter().filter(|(name, _)| !is_the_nodes(name)) {
        lsetxattr(path, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

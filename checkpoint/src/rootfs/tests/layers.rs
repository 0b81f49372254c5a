//! Layers of other makers, well-meaning and not.

use std::fs::{self, File};
use std::io::Write;

use super::{CAPS, is_root, lower, tree};
use crate::rootfs::{ApplyError, apply};

/// A layer as others make it: (path, kind, link or contents).
fn layer(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let contents = if kind.is_file() { text.as_bytes() } else { b"" };
        header.set_size(contents.len() as u64);
        if !kind.is_file() {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, contents).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;
const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
const LINK: tar::EntryType = tar::EntryType::Link;

#[test]
fn a_compressed_layer_of_another_maker_is_applied() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    lower(root.path());
    // The marker comes after one of its siblings here; parents may be missing.
    let plain = layer(&[
        ("emptied/new", FILE, "new"),
        ("emptied/.wh..wh..opq", FILE, ""),
        ("etc/.wh.passwd", FILE, ""),
        ("some/where/new", FILE, "x"),
        ("etc/alias", LINK, "etc/hosts"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    for layer in [gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()] {
        apply(&layer[..], root.path(), &CAPS).unwrap();
        let emptied: Vec<_> = fs::read_dir(root.path().join("emptied")).unwrap().collect();
        assert_eq!(emptied.len(), 1);
        assert!(!root.path().join("etc/passwd").exists());
        assert_eq!(fs::read_to_string(root.path().join("some/where/new")).unwrap(), "x");
        assert_eq!(fs::read_to_string(root.path().join("etc/alias")).unwrap(), "etc/hosts");
    }
}

#[test]
fn no_layer_reaches_outside_of_the_root() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&outside).unwrap();
    File::create(outside.join("file")).unwrap();
    let untouched = tree(&outside);
    let to_outside = outside.to_str().unwrap();
    for entries in [
        &[("l", SYMLINK, to_outside), ("l/new", FILE, "x")][..],
        &[("l", SYMLINK, to_outside), ("l/.wh.file", FILE, "")],
        &[("l", SYMLINK, to_outside), ("l/.wh..wh..opq", FILE, "")],
        &[("l", SYMLINK, to_outside), ("h", LINK, "l/file")],
        &[("l", SYMLINK, "../outside"), ("l/d", DIR, "")],
        &[("h", LINK, "../outside/file")],
        &[("../outside/new", FILE, "x")],
        &[("d/.wh...", FILE, "")],
    ] {
        apply(&layer(entries)[..], &root, &CAPS).unwrap_err();
        assert_eq!(tree(&outside), untouched, "{entries:?}");
    }
    // A directory in place of a link replaces the link; what a link leads to stays.
    apply(&layer(&[("l", SYMLINK, to_outside), ("l", DIR, ""), ("l/x", FILE, "x")])[..], &root, &CAPS)
        .unwrap();
    assert_eq!(tree(&outside), untouched);
    assert!(root.join("l/x").exists());
}

#[test]
fn a_device_that_an_overlay_takes_for_a_removal_is_refused() {
    if is_root() {
        let root = tempfile::tempdir().unwrap();
        let device = layer(&[("x", tar::EntryType::Char, "")]);
        assert!(matches!(apply(&device[..], root.path(), &CAPS), Err(ApplyError::Refused { .. })));
    }
}

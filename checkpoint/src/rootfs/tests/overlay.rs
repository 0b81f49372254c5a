//! Overlays as the kernel makes them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{CAPS, captured, is_root, lower, set_mtime, tree};
use crate::rootfs::{CaptureError, apply, capture};

/// A tmpfs with a lower directory, and overlays of it.
struct Overlays {
    dir: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Overlays {
    fn new(fill_lower: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let overlays = Self { mounted: vec![dir.path().to_owned()], dir };
        let lower = overlays.path("lower");
        fs::create_dir(&lower).unwrap();
        fill_lower(&lower);
        overlays
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts one more; what is seen, and its upper directory.
    fn mount(&mut self, name: &str) -> (PathBuf, PathBuf) {
        let [merged, upper, work] =
            ["", ".upper", ".work"].map(|suffix| self.path(&format!("{name}{suffix}")));
        for dir in [&merged, &upper, &work] {
            fs::create_dir(dir).unwrap();
        }
        let (lower, upper_text, work) = (self.path("lower"), upper.display(), work.display());
        let options = format!("lowerdir={},upperdir={upper_text},workdir={work}\0", lower.display());
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).unwrap();
        mount("overlay", &merged, "overlay", MountFlags::empty(), Some(options)).unwrap();
        self.mounted.push(merged.clone());
        (merged, upper)
    }
}

impl Drop for Overlays {
    fn drop(&mut self) {
        for path in self.mounted.iter().rev() {
            unmount(path, UnmountFlags::empty()).unwrap();
        }
    }
}

fn change(root: &Path) {
    fs::write(root.join("etc/hosts"), "changed").unwrap();
    fs::remove_file(root.join("etc/passwd")).unwrap();
    fs::set_permissions(root.join("same/file"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_dir_all(root.join("emptied")).unwrap();
    fs::create_dir(root.join("emptied")).unwrap();
    fs::write(root.join("emptied/new"), "new").unwrap();
    fs::remove_dir_all(root.join("to-file")).unwrap();
    fs::write(root.join("to-file"), "a file").unwrap();
    fs::remove_file(root.join("to-dir")).unwrap();
    fs::create_dir(root.join("to-dir")).unwrap();
    fs::hard_link(root.join("etc/hosts"), root.join("to-dir/link")).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    for path in ["etc", "emptied", "to-dir", "etc/hosts", ""] {
        set_mtime(&root.join(path), 1_700_000_000, 123_456_789);
    }
}

#[test]
fn changes_of_an_overlay_look_the_same_on_another() {
    if !is_root() {
        return;
    }
    let mut overlays = Overlays::new(lower);
    let (source, upper) = overlays.mount("source");
    change(&source);
    let layer = captured(&upper);
    let (target, _) = overlays.mount("target");
    apply(&layer[..], &target, &CAPS).unwrap();
    assert_eq!(tree(&target), tree(&source));
    assert!(!target.join("gone").exists() && !target.join("emptied/a").exists());

    // Once more, onto what it has made already: a restore that is tried again.
    apply(&layer[..], &target, &CAPS).unwrap();
    assert_eq!(tree(&target), tree(&source));
}

#[test]
fn removals_that_only_an_attribute_tells_are_removals() {
    if !is_root() {
        return;
    }
    let upper = tempfile::tempdir().unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        lsetxattr(upper.path().join(path), name, value, XattrFlags::empty()).unwrap();
    };
    fs::create_dir(upper.path().join("d")).unwrap();
    fs::write(upper.path().join("d/removed"), "").unwrap();
    fs::write(upper.path().join("d/empty"), "").unwrap();
    set("d", "trusted.overlay.opaque", b"x");
    set("d/removed", "trusted.overlay.whiteout", b"y");
    let layer = captured(upper.path());
    let names: Vec<_> = tar::Archive::new(&layer[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().into_owned())
        .collect();
    assert_eq!(names, ["./", "d", "d/empty", "d/.wh.removed"].map(PathBuf::from));
}

#[test]
fn what_only_the_image_has_is_refused() {
    if !is_root() {
        return;
    }
    for (attribute, is_dir) in [("trusted.overlay.redirect", true), ("trusted.overlay.metacopy", false)] {
        let upper = tempfile::tempdir().unwrap();
        let path = upper.path().join("x");
        if is_dir {
            fs::create_dir(&path).unwrap()
        } else {
            fs::write(&path, "").unwrap()
        };
        lsetxattr(&path, attribute, b"/y", XattrFlags::empty()).unwrap();
        let refused = capture(upper.path(), Vec::new());
        assert!(matches!(refused, Err(CaptureError::Inexpressible { .. })), "{attribute}: {refused:?}");
    }
    let upper = tempfile::tempdir().unwrap();
    fs::write(upper.path().join(".wh.x"), "").unwrap();
    assert!(matches!(capture(upper.path(), Vec::new()), Err(CaptureError::Inexpressible { .. })));
}

//! Trees there and back, and overlays as the kernel makes them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr, makedev,
    mknodat, utimensat,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

const CAPS: Caps = Caps { entries: 10_000, bytes: 64 << 20 };

/// Whether what needs root can be tried; says so if not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// All that a tree consists of, by path.
type Tree = BTreeMap<PathBuf, String>;

fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first_names = BTreeMap::new();
    describe(root, Path::new(""), &mut tree, &mut first_names);
    tree
}

fn describe(root: &Path, path: &Path, tree: &mut Tree, first_names: &mut BTreeMap<u64, PathBuf>) {
    let full = root.join(path);
    let metadata = fs::symlink_metadata(&full).unwrap();
    let kind = metadata.file_type();
    let contents = if kind.is_file() {
        format!("{:?}", fs::read(&full).unwrap())
    } else if kind.is_symlink() {
        format!("{:?}", fs::read_link(&full).unwrap())
    } else if kind.is_char_device() || kind.is_block_device() {
        metadata.rdev().to_string()
    } else {
        String::new()
    };
    let same = match kind.is_dir() {
        true => path,
        false => first_names.entry(metadata.ino()).or_insert_with(|| path.to_owned()),
    };
    let description = format!(
        "{kind:?} {:o} {}:{} {}.{} {:?} {contents} {same:?}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        xattrs::read(&full).unwrap(),
    );
    tree.insert(path.to_owned(), description);
    if kind.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            describe(root, &path.join(name), tree, first_names);
        }
    }
}

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    HardLink(usize),
    Fifo,
    Device(u8),
    Socket,
}

#[derive(Clone, Debug)]
struct Spec {
    path: Vec<String>,
    node: Node,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    xattr: Option<Vec<u8>>,
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let name = prop_oneof!["[a-c]", "[a-c ü\n]{1,4}", "x{90,120}"];
    let node = prop_oneof![
        3 => proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Node::File),
        3 => Just(Node::Directory),
        2 => "[a-z/.]{1,150}".prop_map(Node::Symlink),
        2 => any::<usize>().prop_map(Node::HardLink),
        1 => Just(Node::Fifo),
        1 => any::<u8>().prop_map(Node::Device),
        1 => Just(Node::Socket),
    ];
    let spec = (
        proptest::collection::vec(name, 1..4),
        node,
        0_u32..0o10000,
        (0_u32..3_000_000, 0_u32..3_000_000),
        (-1_000_000_000_i64..4_000_000_000, 0_i64..1_000_000_000),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..30)),
    );
    let spec = spec.prop_map(|(path, node, mode, owner, modified, xattr)| Spec {
        path,
        node,
        mode,
        owner,
        modified,
        xattr,
    });
    proptest::collection::vec(spec, 0..12)
}

/// Makes what can be made of it; times last, as making something changes the directory's.
fn build(root: &Path, specs: &[Spec]) {
    let mut made: Vec<PathBuf> = Vec::new();
    for spec in specs {
        let path = root.join(spec.path.iter().collect::<PathBuf>());
        if path.symlink_metadata().is_ok() || fs::create_dir_all(path.parent().unwrap()).is_err() {
            continue;
        }
        let owner_only = Mode::RUSR | Mode::WUSR;
        match &spec.node {
            Node::File(contents) => fs::write(&path, contents).unwrap(),
            Node::Directory => fs::create_dir(&path).unwrap(),
            Node::Symlink(target) => symlink(target, &path).unwrap(),
            Node::HardLink(which) => {
                match made.get(which % made.len().max(1)).filter(|made| !made.is_dir()) {
                    Some(first) => fs::hard_link(first, &path).unwrap(),
                    None => continue,
                }
            }
            Node::Fifo => mknodat(CWD, &path, FileType::Fifo, owner_only, 0).unwrap(),
            Node::Device(minor) => {
                mknodat(CWD, &path, FileType::CharacterDevice, owner_only, makedev(9, (*minor).into()))
                    .unwrap();
            }
            // The kernel takes no more of a path.
            Node::Socket if path.as_os_str().len() < 100 => drop(UnixListener::bind(&path).unwrap()),
            Node::Socket => continue,
        }
        let (user, group) = (Uid::from_raw(spec.owner.0), Gid::from_raw(spec.owner.1));
        chownat(CWD, &path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if !path.is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(spec.mode)).unwrap();
        }
        if let Some(value) = &spec.xattr {
            lsetxattr(&path, "trusted.t", value, XattrFlags::empty()).unwrap();
        }
        made.push(path);
    }
    for (path, spec) in made.iter().zip(specs) {
        set_mtime(path, spec.modified.0, spec.modified.1);
    }
}

fn captured(upper: &Path) -> Vec<u8> {
    let mut layer = Vec::new();
    capture(upper, &mut layer).unwrap();
    layer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_comes_back_as_it_was(specs in specs()) {
        if is_root() {
            let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            build(source.path(), &specs);
            let layer = captured(source.path());
            apply(&layer[..], target.path(), &CAPS).unwrap();
            prop_assert_eq!(tree(target.path()), tree(source.path()));
            prop_assert_eq!(captured(target.path()), layer);
        }
    }
}

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

fn lower(root: &Path) {
    for dir in ["etc", "gone/deep", "emptied", "to-file", "same"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for file in [
        "etc/hosts",
        "etc/passwd",
        "gone/deep/file",
        "emptied/a",
        "emptied/b",
        "to-file/x",
        "to-dir",
        "same/file",
    ] {
        fs::write(root.join(file), file).unwrap();
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

#[test]
fn names_are_bytes() {
    if is_root() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(source.path().join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        apply(&captured(source.path())[..], target.path(), &CAPS).unwrap();
        assert_eq!(tree(target.path()), tree(source.path()));
    }
}

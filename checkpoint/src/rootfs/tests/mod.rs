//! Trees there and back.

mod layers;
mod overlay;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr, makedev,
    mknodat, utimensat,
};

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

#[test]
fn names_are_bytes() {
    if is_root() {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(source.path().join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        apply(&captured(source.path())[..], target.path(), &CAPS).unwrap();
        assert_eq!(tree(target.path()), tree(source.path()));
    }
}

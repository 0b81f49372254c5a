//! Small root file systems for images: static programs, or programs of the nodes' Debian with what they need.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::error::{At, LabError, Result};
use crate::root::Root;
use crate::{command, dirs};

/// A folder in the making, removed when it is dropped.
pub(super) struct Rootfs(tempfile::TempDir);

impl Rootfs {
    /// One that has the folders which every container needs.
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir().at("create", std::env::temp_dir())?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).at("open", folder.path())?;
        let rootfs = Rootfs(folder);
        for name in ["data", "dev", "etc", "proc", "run", "sys", "tmp", "var"] {
            rootfs.make_folder(name)?;
        }
        let run = rootfs.path().join("var/run");
        symlink("/run", &run).at("link", run)?;
        let tmp = rootfs.path().join("tmp");
        fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777)).at("open", tmp)?;
        Ok(rootfs)
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn make_folder(&self, name: &str) -> Result<()> {
        let folder = self.path().join(name);
        fs::create_dir_all(&folder).at("make", folder)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        fs::write(&path, text).at("write", path)
    }

    /// Copies a file of the host to `name`.
    pub(super) fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let to = self.path().join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        fs::copy(from, to).at("copy", from).map(drop)
    }

    /// A shell and the usual tools.
    pub(super) fn add_busybox(&self, root: &Root) -> Result<()> {
        self.copy(&root.path().join("usr/bin/busybox"), "bin/busybox")?;
        for applet in command::output(root.command("busybox").arg("--list"))?.lines() {
            let link = self.path().join("bin").join(applet);
            if !link.exists() {
                symlink("busybox", &link).at("link", link)?;
            }
        }
        Ok(())
    }

    /// Copies programs or libraries of the root and the shared libraries that they need, each to where it is there.
    pub(super) fn add_programs(&self, root: &Root, programs: &[&str]) -> Result<()> {
        for program in programs {
            self.add_file(root, program)?;
            for library in libraries(root, program)? {
                self.add_file(root, &library)?;
            }
        }
        Ok(())
    }

    /// Copies a file of the root; behind symbolic links lies what gets their name.
    fn add_file(&self, root: &Root, path: &str) -> Result<()> {
        self.copy(&resolve(root.path(), Path::new(path))?, path.trim_start_matches('/'))
    }

    /// Copies a folder of the root with all in it.
    pub(super) fn add_tree(&self, root: &Root, path: &str) -> Result<()> {
        let name = path.trim_start_matches('/');
        let target = self.path().join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        dirs::copy_tree(&root.path().join(name), &target)
    }
}

/// What ldd(1) names, by absolute path.
fn libraries(root: &Root, program: &str) -> Result<Vec<String>> {
    let listed = command::output(root.command("ldd").arg(program))?;
    Ok(listed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(str::to_owned)
        .collect())
}

/// The file that a path means inside of a root file system: its links count from there, not from the host.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut rest: Vec<_> = path.components().rev().map(|c| c.as_os_str().to_owned()).collect();
    let mut found = PathBuf::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => found.push(name),
            Some(Component::ParentDir) => drop(found.pop()),
            Some(Component::RootDir) => found.clear(),
            _ => {}
        }
        let here = root.join(&found);
        if here.is_symlink() {
            links += 1;
            if links > 40 {
                return Err(LabError::Broken(format!("{} goes round in links", path.display())));
            }
            let target = fs::read_link(&here).at("read", &here)?;
            found.pop();
            rest.extend(target.components().rev().map(|c| c.as_os_str().to_owned()));
        }
    }
    Ok(root.join(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_of_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/x")).unwrap();
        symlink("usr/lib", root.path().join("lib")).unwrap();
        symlink("/lib/x/real", root.path().join("usr/lib/name")).unwrap();
        assert_eq!(resolve(root.path(), Path::new("/lib/name")).unwrap(), root.path().join("usr/lib/x/real"));
        assert_eq!(resolve(root.path(), Path::new("/lib/../../..")).unwrap(), root.path().join(""));
        symlink("round", root.path().join("round")).unwrap();
        assert!(resolve(root.path(), Path::new("/round")).is_err());
    }
}

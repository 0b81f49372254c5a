//! Images for the nodes, made here without any other tool, and cached by what they are made of.

mod builtin;
mod oci;
mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};

use crate::dirs::{self, Dirs};
use crate::error::{At, LabError, Result};
use crate::root::Root;

pub use builtin::WORKLOADS;
pub use oci::{ImageConfig, write_archive};

/// An image archive on the host's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name for containerd. An image of the lab's own has a hash of what is in it as its tag.
    pub reference: String,
    /// The archive: OCI or docker.
    pub archive: PathBuf,
}

impl Image {
    /// One of the lab's own images, see [`WORKLOADS`]. `programs` is the folder of the static test programs.
    pub(crate) fn builtin(name: &str, dirs: &Dirs, root: &Root, programs: &Path) -> Result<Self> {
        let recipe = builtin::recipe(name, root, programs)?;
        let reference = format!("localhost/{name}:{}", recipe.hash);
        let archive = dirs.images().join(format!("{name}-{}.tar", recipe.hash));
        let _lock = dirs::lock(&archive)?;
        if !archive.exists() {
            let unfinished = archive.with_extension("unfinished");
            let (rootfs, config) = recipe.make()?;
            write_archive(rootfs.path(), &reference, &config, &unfinished)?;
            fs::rename(&unfinished, &archive).at("rename", &unfinished)?;
        }
        Ok(Image { reference, archive })
    }

    /// An image of the user's own, from an archive or from a folder that holds a root file system. The returned
    /// guard holds the archive that was made of a folder.
    pub(crate) fn of_user(path: &Path, name: &str) -> Result<(Self, Option<tempfile::TempDir>)> {
        let reference = user_reference(name)?;
        if path.is_file() {
            return Ok((Image { reference, archive: path.to_owned() }, None));
        }
        let folder = tempfile::tempdir().at("create", std::env::temp_dir())?;
        let archive = folder.path().join("image.tar");
        write_archive(path, &reference, &ImageConfig::default(), &archive)?;
        Ok((Image { reference, archive }, Some(folder)))
    }
}

/// The full name of an image that a user has named.
pub(crate) fn user_reference(name: &str) -> Result<String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_./:".contains(c);
    if name.is_empty() || !name.chars().all(good) || name.starts_with(|c: char| !c.is_ascii_alphanumeric()) {
        return Err(LabError::Usage(format!("`{name}` is no name of an image: a-z, 0-9 and -_./:")));
    }
    let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
    Ok(if tagged.contains('/') { tagged } else { format!("localhost/{tagged}") })
}

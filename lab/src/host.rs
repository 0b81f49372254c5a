//! What the lab needs of the machine that it runs on.

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::error::{At, LabError, Result};

/// Sees that a program is there, installing the Debian package that has it when it is not.
pub fn ensure_program(program: &str, package: &str) -> Result<()> {
    ensure(|| find(program), program, package)
}

/// Sees that a file is there, installing the Debian package that has it when it is not.
pub fn ensure_file(path: &Path, package: &str) -> Result<()> {
    ensure(|| path.exists(), &path.display().to_string(), package)
}

fn ensure(there: impl Fn() -> bool, what: &str, package: &str) -> Result<()> {
    if there() {
        return Ok(());
    }
    eprintln!("installing {package} (for {what})");
    command::output(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    command::output(install.args(["install", "-y", "-qq", "--no-install-recommends", package]))?;
    if there() {
        return Ok(());
    }
    Err(LabError::Machine {
        what: format!("{what} is not there, also after installing {package}"),
        mend: "install it by hand",
    })
}

fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // debootstrap lives in sbin, which a user's PATH may lack.
    let also = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path).chain(also).any(|folder| Path::new(&folder).join(program).is_file())
}

/// Refuses to go on without root, which namespaces, mounts and CRIU need.
pub fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(LabError::Machine { what: "the lab needs root".into(), mend: "run the same with sudo" })
}

/// Whether this machine's root has CAP_SYS_RESOURCE: without it CRIU can dump root's processes only.
pub(crate) fn may_raise_limits() -> Result<bool> {
    use rustix::thread::{CapabilitySet, capabilities};
    let sets = capabilities(None).at("read the capabilities of", "/proc/self")?;
    Ok(sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}

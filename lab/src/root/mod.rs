//! The file system of the nodes: a Debian that is made once and then shared by all labs, read-only.

mod mirror;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{At, LabError, Result};
use crate::{Dirs, command, dirs, hash, host};

const SUITE: &str = "forky";

/// Nothing is pinned: the suite moves, and `lab status` prints the versions that matter.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "crun",
    "ethtool",
    "iperf3",
    "iproute2",
    "iptables",
    "jq",
    "libcriu2",
    "nftables",
    "postgresql",
    "procps",
    "redis-server",
    "redis-tools",
    "runc",
    "strace",
    "tini",
    "util-linux",
];

/// The packages whose versions decide what a migration can do.
const WORTH_NAMING: &[&str] = &["criu", "containerd", "runc", "crun", "redis-server", "postgresql"];

/// A finished root file system.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The root of today's recipe; made when it isn't there yet, which takes a minute or two.
    pub fn ensure(dirs: &Dirs) -> Result<Self> {
        let path = dirs.root(&hash::of([SUITE.as_bytes(), PACKAGES.join(",").as_bytes()]));
        let _lock = dirs::lock(&path)?;
        if !path.exists() {
            eprintln!("making the nodes' root file system in {} (once, a minute or two)", path.display());
            let unfinished = path.with_extension("unfinished");
            dirs::remove_tree(&unfinished)?;
            debootstrap(&unfinished, PACKAGES)?;
            fs::rename(&unfinished, &path).at("rename", &unfinished)?;
        }
        Ok(Root { path })
    }

    /// One that is there, made by this recipe or an earlier one.
    pub(crate) fn at(path: &Path) -> Self {
        Root { path: path.to_owned() }
    }

    /// Where it is. Not to be written to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `name version` of the packages that decide what a migration can do.
    pub fn versions(&self) -> Result<String> {
        let mut query = self.command("dpkg-query");
        query.args(["--show", "--showformat", "${Package} ${Version}\n"]).args(WORTH_NAMING);
        command::output(&mut query)
    }

    /// A command that runs inside of it. For looking only: `ldd`, `dpkg`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.env_clear().env("PATH", crate::PATH).env("LC_ALL", "C").arg(&self.path).arg(program);
        command
    }
}

/// Makes a small Debian with these packages in a folder.
pub(crate) fn debootstrap(target: &Path, packages: &[&str]) -> Result<()> {
    host::ensure_program("debootstrap", "debootstrap")?;
    let mirror = mirror::of_this_host()?;
    if mirror.is_none() {
        // Not a Debian: its own keyring doesn't know Debian's signatures.
        let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
        host::ensure_file(keyring, "debian-archive-keyring")?;
    }
    let mut command = Command::new("debootstrap");
    command.env("PATH", crate::PATH).env("LC_ALL", "C").args(["--variant=minbase", "--include"]);
    command.arg(packages.join(",")).arg(SUITE).arg(target);
    // An older debootstrap doesn't know the suite's name; all newer suites share sid's script.
    let scripts = Path::new("/usr/share/debootstrap/scripts");
    let known = scripts.join(SUITE).exists();
    match (&mirror, known) {
        (Some(mirror), true) => drop(command.arg(mirror)),
        (Some(mirror), false) => drop(command.arg(mirror).arg(scripts.join("sid"))),
        (None, true) => {}
        (None, false) => {
            return Err(LabError::Machine {
                what: format!("debootstrap doesn't know {SUITE}, and no Debian mirror is known"),
                mend: "set TRANSSHIP_DEBIAN_MIRROR to the address of one",
            });
        }
    }
    command::output(&mut command)?;
    let archives = target.join("var/cache/apt/archives");
    dirs::remove_tree(&archives)?;
    // The nodes' users read what is in it through an overlay: its own mode decides.
    fs::set_permissions(target, fs::Permissions::from_mode(0o755)).at("open", target)
}

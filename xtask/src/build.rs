//! What has to be built before anything can run in a lab.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target that Rust builds for by default here.
pub fn host_target() -> Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("ask rustc for its target")?;
    let text = String::from_utf8(out.stdout).context("ask rustc for its target")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Builds the static test programs and returns their folder.
pub fn workloads() -> Result<PathBuf> {
    build("release", &["--package", "transship-workloads"])
}

/// Builds static programs and returns the folder that they are in.
///
/// With an explicit target, so that build scripts and macros, which can't be static, aren't affected.
fn build(profile: &str, what: &[&str]) -> Result<PathBuf> {
    let target = host_target()?;
    let mut cargo = cargo();
    cargo.args(["build", "--quiet", "--target", &target, "--profile", profile]).args(what);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().context("start cargo")?;
    if !status.success() {
        bail!("the build of {} failed", what.join(" "));
    }
    Ok(target_folder().join(target).join(profile))
}

/// cargo, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

//! What has to be built before anything can run in a lab.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What a lab needs, by the package and the profile that it is built with.
const PROGRAMS: [(&str, &str, &[&str]); 5] = [
    ("transship-cli", "release", &["transship"]),
    ("transship-runtime", "boring", &["transship-runtime", "transship-watchdog"]),
    ("transship-coordinator", "release", &["transship-coordinator"]),
    ("transship-kubectl", "release", &["kubectl-migrate"]),
    (
        "transship-workloads",
        "release",
        &["pause", "counter", "witness", "witness-collector", "dirty", "processes", "pair"],
    ),
];

/// Builds transship and the test programs, all static and with faults to be asked for, and returns the folder that
/// they are in.
pub fn programs() -> Result<PathBuf> {
    let target = host_target()?;
    let folder = target_folder().join("lab");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for (package, profile, names) in PROGRAMS {
        build(package, profile, &target)?;
        for name in names {
            let built = target_folder().join(&target).join(profile).join(name);
            copy_if_changed(&built, &folder.join(name))?;
        }
    }
    Ok(folder)
}

/// Builds the suite of the lab's tests.
pub fn lab_tests() -> Result<PathBuf> {
    runner("transship-lab-tests")
}

/// Builds the benchmark.
pub fn bench() -> Result<PathBuf> {
    runner("transship-bench")
}

/// Builds a program that runs here but drives a lab, with the dependencies that are built for [`programs`] anyway.
fn runner(package: &str) -> Result<PathBuf> {
    let target = host_target()?;
    build(package, "release", &target)?;
    Ok(target_folder().join(target).join("release").join(package))
}

/// Builds a package's programs as static ones.
///
/// The target is named, so that build scripts and macros, which can't be static, are built without the flag.
fn build(package: &str, profile: &str, target: &str) -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--package", package, "--profile", profile, "--target", target]);
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    if package == "transship-cli" {
        cargo.args(["--features", "faults"]);
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    run(&mut cargo, &format!("build of {package}"))
}

/// A program that a node runs is replaced by another file, not written into.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let built = modified(from).with_context(|| format!("find {}", from.display()))?;
    if modified(to).is_ok_and(|copied| copied >= built) {
        return Ok(());
    }
    let fresh = to.with_extension("fresh");
    fs::copy(from, &fresh).with_context(|| format!("copy {}", from.display()))?;
    fs::rename(&fresh, to).with_context(|| format!("replace {}", to.display()))
}

/// The target that Rust builds for by default here.
fn host_target() -> Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("ask rustc for its target")?;
    let text = String::from_utf8(out.stdout).context("ask rustc for its target")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// cargo, in the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Runs a command whose output the user sees.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("start the {what}"))?;
    if !status.success() {
        bail!("the {what} failed ({status})");
    }
    Ok(())
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

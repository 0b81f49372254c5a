//! The one program that is all of Kubernetes: built in a Debian of its own, which goes when it is done, and cached by
//! what it is made of.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

use crate::command;
use crate::dirs::{self, Dirs};
use crate::error::{At, LabError, Result};
use crate::{hash, root};

/// The Go module that links the parts together.
const MODULE: [(&str, &str); 3] = [
    ("main.go", include_str!("../../kubernetes/main.go")),
    ("go.mod", include_str!("../../kubernetes/go.mod")),
    ("go.sum", include_str!("../../kubernetes/go.sum")),
];

/// What the build needs beside the base system.
const PACKAGES: &[&str] = &["ca-certificates", "golang-go"];

/// The host's own authorities: whoever stands between it and the module proxy may have signed with one of them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Of the environment, what says how Go modules are to be had.
const PASSED_ON: [&str; 8] =
    ["GOPROXY", "GOSUMDB", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"];

/// The program of today's recipe; built when it isn't there yet, which takes 5 to 15 minutes and 10 GB for as long.
pub(crate) fn ensure(dirs: &Dirs) -> Result<PathBuf> {
    let path = dirs.kubernetes(&hash::of(MODULE.iter().map(|(_, text)| text.as_bytes())));
    let _lock = dirs::lock(&path)?;
    if !path.exists() {
        let workshop = path.with_extension("unfinished");
        dirs::remove_tree(&workshop)?;
        let built = build(&workshop)?;
        fs::rename(&built, &path).at("rename", built)?;
        dirs::remove_tree(&workshop)?;
    }
    Ok(path)
}

/// Builds it in that folder and returns where it is.
fn build(workshop: &Path) -> Result<PathBuf> {
    let version = version()?;
    eprintln!("building Kubernetes {version} in {} (once, 5 to 15 minutes)", workshop.display());
    root::debootstrap(workshop, PACKAGES)?;
    let authorities = Path::new("/").join(AUTHORITIES);
    if authorities.exists() {
        fs::copy(&authorities, workshop.join(AUTHORITIES)).at("copy", authorities)?;
    }
    let source = workshop.join("src");
    fs::create_dir_all(&source).at("make", &source)?;
    for (name, text) in MODULE {
        fs::write(source.join(name), text).at("write", source.join(name))?;
    }
    eprintln!("downloading its modules");
    let packages = command::output(go(workshop).args(["list", "-deps", "."]))?.lines().count();
    let mut build = go(workshop);
    // -v names each package on a line of its own once it is compiled.
    build.args(["build", "-v", "-trimpath", "-o", "kubernetes", "-ldflags"]);
    build.arg(format!("-s -w -X k8s.io/component-base/version.gitVersion={version}"));
    watch(&mut build, packages as u64)?;
    Ok(source.join("kubernetes"))
}

/// Of Kubernetes, as go.mod has it.
fn version() -> Result<&'static str> {
    let [_, (_, requirements), _] = MODULE;
    let mut words = requirements.split_whitespace().skip_while(|word| *word != "k8s.io/kubernetes");
    words.nth(1).ok_or_else(|| LabError::Broken("lab/kubernetes/go.mod requires no k8s.io/kubernetes".into()))
}

/// The workshop's go, on the module in it. What it starts ends with it, and all of it gives way to other work.
fn go(workshop: &Path) -> Command {
    let mut go = Command::new("nice");
    go.env_clear().env("PATH", crate::PATH).env("HOME", "/root").env("CGO_ENABLED", "0");
    go.env("GOFLAGS", "-mod=readonly -buildvcs=false");
    go.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    go.args(["unshare", "--mount", "--pid", "--fork", "--kill-child"]);
    go.arg(format!("--root={}", workshop.display())).args(["--mount-proc", "--wd=/src", "go"]);
    go
}

/// Runs a build that names a package per line on its standard error, beside a bar; the lines that say something else
/// are what went wrong.
fn watch(build: &mut Command, packages: u64) -> Result<()> {
    let spawned = build.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child =
        spawned.map_err(|source| LabError::Spawn { command: command::describe(build), source })?;
    let bar = ProgressBar::new(packages);
    // The template is a constant; were it wrong, indicatif's own would show as much.
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} packages, {elapsed}") {
        bar.set_style(style);
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line.at("read the output of", "go build")?;
            if line.contains(' ') {
                said += &line;
                said.push('\n');
            } else {
                bar.inc(1);
            }
        }
    }
    let status = child.wait().at("wait for", "go build")?;
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    Err(LabError::Command { command: command::describe(build), status, output: said.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_module() {
        assert!(version().unwrap().starts_with("v1."));
    }
}

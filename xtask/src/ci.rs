//! `cargo xtask ci`: what a change has to pass.

use anyhow::Result;

use crate::build::{cargo, run};

/// Format, lints, documentation, dependencies; the tests come after.
pub fn check() -> Result<()> {
    step("format", &["fmt", "--all", "--check"])?;
    step(
        "clippy",
        &["clippy", "--quiet", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
    )?;
    eprintln!("ci: documentation");
    let mut doc = cargo();
    doc.args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    // Private items are documented too, so that links to them lead somewhere.
    run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"), "documentation")?;
    ensure_cargo_deny()?;
    // Not `advisories`: their database lies where a build machine may not reach.
    step("dependencies", &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
}

fn step(name: &str, arguments: &[&str]) -> Result<()> {
    eprintln!("ci: {name}");
    run(cargo().args(arguments), name)
}

fn ensure_cargo_deny() -> Result<()> {
    let there = cargo().args(["deny", "--version"]).output().is_ok_and(|out| out.status.success());
    if there {
        return Ok(());
    }
    eprintln!("ci: installing cargo-deny (once, some minutes)");
    run(cargo().args(["install", "--quiet", "--locked", "cargo-deny"]), "installation of cargo-deny")
}

//! `transship version`.

use serde::Serialize;

/// What `transship version` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    architecture: &'static str,
}

/// Prints this program's version.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), architecture: std::env::consts::ARCH };
    if arguments.json {
        println!("{}", serde_json::to_string(&version)?);
    } else {
        println!("transship {} ({})", version.version, version.architecture);
    }
    Ok(())
}

//! What transship costs, beside what one would use otherwise, in the same run on the same machine.
//!
//! `cargo xtask bench` runs all of it between the two nodes of a lab. `transship-bench sink` and `source` are one
//! transfer's two ends, also for two real hosts with certificates of `transship pki`.

mod counter;
mod freeze;
mod iperf;
mod memory;
mod quinn_plain;
mod report;
mod transfer;
mod usage;
mod wrapper;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use transship_lab::{LabGuard, LabOptions, PROGRAMS_VARIABLE};
use transship_transfer::IdentityPaths;

use report::Report;

#[derive(Parser)]
#[command(name = "transship-bench", args_conflicts_with_subcommands = true)]
struct Options {
    /// Only this part.
    #[arg(value_enum)]
    part: Option<Part>,
    /// Fewer repeats, less data.
    #[arg(long)]
    quick: bool,
    /// Write all figures to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How long a workload stands still.
    Freeze,
}

#[derive(Subcommand)]
enum End {
    /// Take one transfer in and say what it cost here.
    Sink {
        /// Where it is taken.
        #[arg(long, default_value = "0.0.0.0:7500")]
        listen: SocketAddr,
        #[command(flatten)]
        common: Common,
    },
    /// Send a folder's files to a sink and say what it cost here.
    Source {
        /// The sink's address.
        #[arg(long)]
        to: SocketAddr,
        /// The sink's node name, as its certificate has it.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

/// What both ends are told.
#[derive(clap::Args)]
struct Common {
    /// By which way.
    #[arg(long, value_enum, default_value = "transship")]
    way: Way,
    /// The folder whose files are sent, or into which they are placed (existing, empty).
    #[arg(long)]
    folder: PathBuf,
    /// Where `ca.crt`, `node.crt` and `node.key` are.
    #[arg(long, default_value = "/etc/transship")]
    identity: PathBuf,
}

impl Common {
    fn identity(&self) -> IdentityPaths {
        let file = |name| self.identity.join(name);
        IdentityPaths { ca: file("ca.crt"), certificate: file("node.crt"), key: file("node.key") }
    }
}

/// How bytes go from here to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// transship's transfer: hashed, compressed, verified, placed.
    Transship,
    /// One stream of quinn with its default settings: nothing but the bytes, thrown away at the end.
    Quinn,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Way::Transship => "transship",
            Way::Quinn => "quinn",
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    match options.end {
        Some(End::Sink { listen, common }) => transfer::sink(listen, &common),
        Some(End::Source { to, name, common }) => transfer::source(to, &name, &common),
        None => everything(&options),
    }
}

fn everything(options: &Options) -> Result<()> {
    let programs = std::env::var_os(PROGRAMS_VARIABLE)
        .context("run it by `cargo xtask bench`, which builds what it needs")?;
    let lab = LabGuard::up(&LabOptions::new("bench", programs))?;
    let repeats = if options.quick { 5 } else { 9 };
    let mut report = Report::default();
    eprintln!("bench: the freeze of 64 MiB, {repeats} times, and the same by hand");
    report.freeze(freeze::measure(&lab, repeats)?);
    if options.part.is_none() {
        eprintln!("bench: the wrapper's own cost");
        report.wrapper(wrapper::measure(&lab)?);
        eprintln!("bench: the agents' memory while 1 GiB moves");
        report.memory(memory::measure(&lab)?);
        let mib = if options.quick { 512 } else { 1024 };
        eprintln!("bench: {mib} MiB of random data by each way, {repeats} times in turns");
        report.transfer(transfer::compare(&lab, mib, repeats)?);
    }
    println!("{}", report.table());
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

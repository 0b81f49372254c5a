//! A parent and its children, each adding to a counter in shared memory as fast as it can.
//!
//! The counters lie in a mapped file; give one in a mount that the host sees, and read it there through
//! `transship_workloads::counters`: after a kill not one counter may move, since an instruction that still ran would
//! have moved one.

use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Signal, set_parent_process_death_signal};
use transship_workloads::counters::Counters;
use transship_workloads::signals;

/// Counts in several processes at once into a file that all of them map.
#[derive(Parser)]
struct Options {
    /// How many children, beside the parent.
    #[arg(long, default_value_t = 4)]
    n: usize,
    /// The file to map; made anew at the start. The parent has counter 0.
    #[arg(long, default_value = "/data/shared")]
    file: PathBuf,
    /// What a child is told: its own counter.
    #[arg(long, hide = true)]
    child: Option<usize>,
}

fn main() -> Result<()> {
    signals::die_on_request()?;
    let options = Options::parse();
    // Children are held in a binding, so that none is dropped while the parent lives.
    let (slot, _children) = match options.child {
        Some(slot) => {
            // Outside a PID namespace of its own the parent's end isn't the children's.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            (slot, Vec::new())
        }
        None => (0, spawn(&options)?),
    };
    let counters = Counters::map(&options.file).with_context(|| format!("map {}", options.file.display()))?;
    loop {
        counters.increment(slot);
    }
}

fn spawn(options: &Options) -> Result<Vec<Child>> {
    Counters::create(&options.file, options.n + 1)
        .with_context(|| format!("make {}", options.file.display()))?;
    let program = std::env::current_exe().context("find the own program")?;
    (1..=options.n)
        .map(|slot| {
            let mut child = Command::new(&program);
            child.arg("--file").arg(&options.file).arg("--child").arg(slot.to_string());
            child.spawn().with_context(|| format!("start {}", program.display()))
        })
        .collect()
}

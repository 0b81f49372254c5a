//! `cargo xtask bench`: how fast it is, beside what it is made of.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::build;

#[derive(Args)]
pub struct Options {
    /// What `transship-bench` takes: `freeze` for that part alone, `--quick`, `--json FILE`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub fn run(options: &Options) -> Result<ExitCode> {
    eprintln!("bench: building transship, its test programs and the benchmark");
    let programs = build::programs()?;
    let mut bench = Command::new(build::bench()?);
    bench.args(&options.arguments).env(transship_lab::PROGRAMS_VARIABLE, programs);
    build::run(&mut bench, "benchmark").map(|()| ExitCode::SUCCESS)
}

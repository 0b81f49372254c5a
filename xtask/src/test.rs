//! `cargo xtask test`: every suite, one count.

mod libtest;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::build;
use libtest::{Seen, Totals};

/// Which tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Everything that needs no lab: all crates' own tests.
    Unit,
    /// The simulations, with many more cases than the unit suite gives them.
    Sim,
    /// Real migrations between the nodes of a lab. Needs root.
    Lab,
    /// Real migrations between the kubelets of a cluster in a lab. Needs root.
    Kubernetes,
}

#[derive(Args)]
pub struct Options {
    /// One suite; all of them when not given.
    #[arg(long, value_enum)]
    suite: Option<Suite>,
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Write the counts to this file too: {"passed":n,"failed":n,"skipped":[{"test":…,"why":…}]}.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How many cases each simulation tries, by the variable that it asks; ten times and more of what `unit` tries.
const SIMULATED: [(&str, &str); 2] = [("TRANSSHIP_SIM_SEEDS", "50000"), ("PROPTEST_CASES", "10000")];

/// How the names of scenarios begin that need a cluster, and of those that need none.
const CLUSTERED: &str = "kubernetes::";
const HOSTED: [&str; 2] = ["v1::", "v2::"];

pub fn run(options: &Options) -> Result<ExitCode> {
    let mut totals = Totals::default();
    for suite in [Suite::Unit, Suite::Sim, Suite::Lab, Suite::Kubernetes] {
        if options.suite.is_none_or(|only| only == suite) {
            totals.add(run_suite(suite, options.filter.as_deref())?);
        }
    }
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&totals)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    for skipped in &totals.skipped {
        println!("skipped {}: {}", skipped.test, skipped.why);
    }
    println!("{totals}");
    Ok(if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_suite(suite: Suite, filter: Option<&str>) -> Result<Totals> {
    let mut command = match suite {
        Suite::Unit => {
            eprintln!("unit: all crates' own tests");
            let mut cargo = build::cargo();
            cargo.args(["test", "--workspace", "--exclude", "transship-lab-tests", "--no-fail-fast"]);
            cargo.args(["--features", "transship-transfer/faults"]);
            cargo
        }
        Suite::Sim => {
            eprintln!("sim: migrations and transfers with faults, in virtual time");
            let mut cargo = build::cargo();
            cargo.args(["test", "--package", "transship-decision", "--package", "transship-transfer"]);
            cargo.args(["--test", "simulation", "--no-fail-fast"]);
            cargo.envs(SIMULATED);
            cargo
        }
        Suite::Lab => {
            let mut tests = in_lab("lab")?;
            eprintln!("lab: migrations between real nodes");
            tests.args(["--skip", CLUSTERED]);
            tests
        }
        Suite::Kubernetes => {
            let mut tests = in_lab("kubernetes")?;
            eprintln!("kubernetes: migrations between real kubelets");
            tests.args(HOSTED.iter().flat_map(|prefix| ["--skip", prefix]));
            tests
        }
    };
    if let Some(filter) = filter {
        command.arg(filter);
    }
    // Scenarios are few and take seconds each.
    let least = if matches!(suite, Suite::Lab | Suite::Kubernetes) { Seen::Routine } else { Seen::News };
    libtest::run(&mut command, least)
}

/// The program that has both suites that need a lab.
fn in_lab(suite: &str) -> Result<Command> {
    eprintln!("{suite}: building transship and its test programs");
    let programs = build::programs()?;
    let mut tests = Command::new(build::lab_tests()?);
    tests.env(transship_lab::PROGRAMS_VARIABLE, programs);
    Ok(tests)
}

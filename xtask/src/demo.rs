//! `cargo xtask demo`: a container with state moves from one real node to another while it runs.

mod evidence;
mod kubernetes;
mod timeline;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use transship_lab::{AGENT_PORT, Lab, LabGuard, LabOptions, NodeName, Workload, until};

use crate::build;
use evidence::Evidence;

#[derive(Args)]
pub struct Options {
    /// Between two nodes of a Kubernetes cluster, whose program is built the first time, which takes a while.
    #[arg(long)]
    kubernetes: bool,
    /// Write the outcome to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What `transship migrate --json` tells.
#[derive(Debug, Deserialize)]
struct Report {
    ok: bool,
    freeze_ms: f64,
    phases_ms: Map<String, Value>,
    phases: Vec<timeline::Phase>,
    bytes: Bytes,
    reason: String,
    message: String,
    target_ip: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Bytes {
    total: u64,
    sent: u64,
    zero: u64,
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Outcome {
    ok: bool,
    freeze_ms: f64,
    phases_ms: Map<String, Value>,
    bytes: Bytes,
    /// Missing when it did not move.
    workload: Option<Evidence>,
}

const LAB: &str = "demo";
const NAME: &str = "counter";
/// A count every 10 ms: fine enough to show how long it stood still.
const ARGUMENTS: [&str; 4] = ["--mib", "64", "--interval-ms", "10"];

pub fn run(options: &Options) -> Result<ExitCode> {
    let (ok, outcome) = if options.kubernetes {
        let outcome = kubernetes::run()?;
        (outcome.ok, serde_json::to_value(outcome)?)
    } else {
        let outcome = between_hosts()?;
        (outcome.ok, serde_json::to_value(outcome)?)
    };
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&outcome)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn between_hosts() -> Result<Outcome> {
    say("building transship and its test programs");
    let programs = build::programs()?;
    let begun = Instant::now();
    let lab = LabGuard::up(&LabOptions::new(LAB, programs))?;
    say(&format!(
        "nodes a and b are up, each with containerd and an agent ({:.1} s)",
        begun.elapsed().as_secs_f64()
    ));

    let workload = Workload::new(NAME, "counter").with_arguments(ARGUMENTS);
    let source = lab.start(NodeName::A, &workload)?;
    let count = wait_for_count(&lab, &source.address, 100)?;
    say(&format!(
        "`{NAME}` runs on a ({}), with 64 MiB of memory and a file; it has counted to {count}",
        source.address
    ));

    say("transship migrate");
    let report = migrate(&lab)?;
    let (ok, workload) = if report.ok { show(&lab, &report)? } else { explain(&lab, &report)? };
    let Report { freeze_ms, phases_ms, bytes, .. } = report;
    Ok(Outcome { ok, freeze_ms, phases_ms, bytes, workload })
}

/// What happened, and whether the counter went on as if nothing had.
fn show(lab: &Lab, report: &Report) -> Result<(bool, Option<Evidence>)> {
    let [a, b] = lab.nodes();
    let checked = check(lab, &report.target_ip)?;
    let evidence = Evidence::of(&evidence::counts(a)?, &evidence::counts(b)?)?;
    println!("\n{}", timeline::draw(&report.phases));
    println!("frozen {:.0} ms · {}", report.freeze_ms, report.bytes);
    println!("{evidence}");
    println!(
        "`{NAME}` on b ({}), asked whether its memory and its file are right: {checked}",
        report.target_ip
    );
    Ok((evidence.is_seamless() && checked.starts_with("ok "), Some(evidence)))
}

/// Why it did not move, with all that may help.
fn explain(lab: &Lab, report: &Report) -> Result<(bool, Option<Evidence>)> {
    println!("{}: {}", report.reason, report.message);
    for node in lab.nodes() {
        println!("\nagent on node {}:\n{}", node.name(), node.agent_log()?);
    }
    Ok((false, None))
}

fn say(step: &str) {
    println!("· {step}");
}

fn migrate(lab: &Lab) -> Result<Report> {
    let to = format!("{}:{AGENT_PORT}", NodeName::B.address());
    let mut migrate = lab.node(NodeName::A).command("transship")?;
    migrate.args(["migrate", NAME, "--to", &to, "--json"]);
    let out = migrate.stderr(Stdio::inherit()).output().context("start transship migrate")?;
    serde_json::from_slice(&out.stdout)
        .with_context(|| format!("understand what transship migrate said ({})", out.status))
}

/// Waits until the counter has counted that far, and returns how far it is.
fn wait_for_count(lab: &Lab, address: &str, least: u64) -> Result<u64> {
    Ok(until(&format!("a count of {least} at {address}"), Duration::from_secs(20), || {
        // Until it listens, and has counted that far, there is no answer to go by.
        let count = ask(lab, address, "get").ok().and_then(|answer| answer.parse().ok());
        Ok(count.filter(|count| *count >= least))
    })?)
}

/// Lets the moved counter go on for a while and has it look at all that it holds.
fn check(lab: &Lab, address: &str) -> Result<String> {
    let count = wait_for_count(lab, address, 1)?;
    wait_for_count(lab, address, count + 50)?;
    ask(lab, address, "check")
}

/// One line to the counter from outside of both nodes, and its answer.
fn ask(lab: &Lab, address: &str, question: &str) -> Result<String> {
    let answer = lab.client().in_network(|| {
        let mut stream = TcpStream::connect((address, 8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        std::io::Result::Ok(answer)
    })?;
    Ok(answer.with_context(|| format!("ask {address}"))?.trim().to_owned())
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:.1} MiB of state: {:.1} MiB sent, {:.1} MiB zero and not sent",
            mib(self.total),
            mib(self.sent),
            mib(self.zero)
        )
    }
}

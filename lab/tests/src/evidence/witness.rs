//! A witness, which tells its numbers to a collector that no migration touches.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transship_lab::{CLIENT_ADDRESS, Lab, NodeName, Workload, until};
use transship_workloads::witness::{Arrival, Summary, summarize};

use super::PATIENCE;
use crate::node;

const PORT: u16 = 9000;
const PROGRAM: &str = "/usr/local/bin/witness-collector";
const RECORD: &str = "/tmp/witness-record";

/// A collector that listens in the world outside, and the witness that it listens to.
pub struct Collector<'a> {
    lab: &'a Lab,
    name: String,
    program: Child,
}

impl<'a> Collector<'a> {
    /// Listens, starts a witness on that node and waits until it is heard.
    pub fn start(lab: &'a Lab, node: NodeName, name: &str) -> Result<Self> {
        let client = lab.client();
        let programs = std::env::var_os(transship_lab::PROGRAMS_VARIABLE).unwrap_or_default();
        let copied = client.path(PROGRAM)?;
        if !copied.exists() {
            let program = std::path::Path::new(&programs).join("witness-collector");
            fs::copy(&program, copied).with_context(|| format!("copy {}", program.display()))?;
        }
        let listen = format!("{CLIENT_ADDRESS}:{PORT}");
        let mut command = client.command(PROGRAM)?;
        command.args(["--listen", &listen, "--out", RECORD]).stdin(Stdio::null()).stdout(Stdio::null());
        let program = command.spawn().context("start the collector")?;
        let collector = Collector { lab, name: name.to_owned(), program };
        lab.start(node, &Workload::new(name, "witness").with_arguments(["--to", &listen]))?;
        collector.hears(1)?;
        Ok(collector)
    }

    /// What has been heard so far.
    pub fn summary(&self) -> Result<Summary> {
        let path = self.lab.client().path(RECORD)?;
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // A last line without its end is still being written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let arrivals: Result<Vec<Arrival>, _> = whole.lines().map(str::parse).collect();
        Ok(summarize(&arrivals.context("understand what was heard")?))
    }

    /// In all this time one process was heard, no number of its is missing or came twice, it never was silent for
    /// longer than `longest`, and it is heard now, from the one node where it runs.
    pub fn has_heard_one_whole_process(&self, longest: Duration) -> Result<NodeName> {
        let before = self.summary()?.count;
        self.hears(before + 20)?;
        let summary = self.summary()?;
        ensure!(summary.ok, "not one whole process: {summary:?}");
        let longest_ms = longest.as_secs_f64() * 1000.0;
        ensure!(summary.gap_ms <= longest_ms, "silent for longer than {longest_ms} ms: {summary:?}");
        let mut found = vec![];
        for name in transship_lab::NODES {
            if node::running(self.lab, name, &self.name)?.is_some() {
                found.push(name);
            }
        }
        match found[..] {
            [node] => Ok(node),
            _ => anyhow::bail!("{} runs on {} nodes", self.name, found.len()),
        }
    }

    fn hears(&self, least: u64) -> Result<()> {
        let look = || Ok(self.summary().ok().filter(|summary| summary.count >= least));
        let heard = until(&format!("number {least} of {}", self.name), PATIENCE, look);
        heard.map(drop).with_context(|| format!("heard so far: {:?}", self.summary()))
    }
}

impl Drop for Collector<'_> {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

//! A counter: numbers in memory, in a file of its root, on its standard output, and over TCP.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use transship_lab::{Lab, NodeName, Workload, until};

use super::{PATIENCE, ask};
use crate::node;

/// A counter in a Pod of its own, wherever it runs.
pub struct Counter<'a> {
    lab: &'a Lab,
    name: String,
    address: String,
}

impl<'a> Counter<'a> {
    /// Starts one with 16 MiB of memory that counts a hundred times a second, and waits until it has begun.
    pub fn start(lab: &'a Lab, node: NodeName, name: &str) -> Result<Self> {
        Self::start_with(lab, node, &Self::workload(name, 16))
    }

    /// What [`start`](Self::start) starts, with so much memory.
    pub fn workload(name: &str, mib: u32) -> Workload {
        Workload::new(name, "counter").with_arguments(["--interval-ms", "10", "--mib", &mib.to_string()])
    }

    /// Starts one and waits until it has begun to count.
    pub fn start_with(lab: &'a Lab, node: NodeName, workload: &Workload) -> Result<Self> {
        let container = lab.start(node, workload)?;
        Self::started(lab, &workload.name, &container.address)
    }

    /// One that has been started there; waits until it has begun to count.
    pub fn started(lab: &'a Lab, name: &str, address: &str) -> Result<Self> {
        let counter = Counter { lab, name: name.to_owned(), address: address.to_owned() };
        counter.reaches(1)?;
        Ok(counter)
    }

    /// What it has counted to.
    pub fn count(&self) -> Result<u64> {
        let answer = ask(self.lab, &self.address, "get")?;
        answer.parse().with_context(|| format!("{} answers {answer:?}, no number", self.name))
    }

    /// It counts on, and every page of its memory and every line of its file is right.
    pub fn runs_on(&self) -> Result<()> {
        let count = self.count()?;
        self.reaches(count + 5)?;
        let answer = ask(self.lab, &self.address, "check")?;
        ensure!(answer.starts_with("ok "), "{} says of itself: {answer}", self.name);
        Ok(())
    }

    /// It runs on that node now and nowhere else, has gone on from `count` or later, and is whole.
    pub fn runs_on_at(&mut self, node: NodeName, count: u64) -> Result<()> {
        let other = node.peer();
        if node::running(self.lab, other, &self.name)?.is_some() {
            bail!("{} runs on node {other} too", self.name);
        }
        self.address = node::must_run(self.lab, node, &self.name)?.address;
        let now = self.count()?;
        ensure!(now >= count, "{} stands at {now}, it was at {count} before", self.name);
        self.runs_on()
    }

    /// What it has written on both nodes, taken together, is every number once.
    pub fn has_written_each_number_once(&self) -> Result<()> {
        let mut numbers = vec![];
        for node in self.lab.nodes() {
            let Ok(pods) = fs::read_dir(node.path("/var/log/pods")?) else { continue };
            for pod in pods {
                let pod = pod.context("list logs")?;
                if pod.file_name().to_string_lossy().starts_with(&format!("default_{}_", self.name)) {
                    let text = fs::read_to_string(pod.path().join("main/0.log")).context("read a log")?;
                    numbers.extend(text.lines().filter_map(number));
                }
            }
        }
        numbers.sort_unstable();
        let wrong = (1..).zip(&numbers).find(|(expected, number)| expected != *number);
        ensure!(!numbers.is_empty(), "{} has written nothing", self.name);
        match wrong {
            None => Ok(()),
            Some((expected, number)) => bail!("{} has written {number} where {expected} was due", self.name),
        }
    }

    fn reaches(&self, least: u64) -> Result<()> {
        // Until it listens there is no answer to go by.
        let look = || Ok(self.count().ok().filter(|count| *count >= least));
        Ok(until(&format!("a count of {least} by {}", self.name), PATIENCE, look).map(drop)?)
    }
}

/// A line of a CRI log, `TIME stdout F NUMBER MONOTONIC_MS REALTIME_MS`.
fn number(line: &str) -> Option<u64> {
    let mut words = line.split(' ').skip(1);
    (words.next()? == "stdout").then_some(())?;
    words.nth(1)?.parse().ok()
}

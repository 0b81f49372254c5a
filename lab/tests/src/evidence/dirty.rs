//! A process that writes its memory all the time and knows what each page ought to hold.

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName, Workload, until};

use super::{PATIENCE, ask};
use crate::node;

/// A dirtying process in a Pod of its own.
pub struct Dirty<'a> {
    lab: &'a Lab,
    name: String,
    address: String,
}

impl<'a> Dirty<'a> {
    /// Starts one that holds so much memory and writes so much of it each second; waits until it has begun.
    pub fn start(lab: &'a Lab, node: NodeName, name: &str, mib: u32, mib_per_s: u32) -> Result<Self> {
        let arguments = ["--mib", &mib.to_string(), "--mib-per-s", &mib_per_s.to_string()];
        let container = lab.start(node, &Workload::new(name, "dirty").with_arguments(arguments))?;
        let dirty = Dirty { lab, name: name.to_owned(), address: container.address };
        dirty.has_written(1)?;
        Ok(dirty)
    }

    /// It runs on that node, goes on writing, and every page holds what it ought to.
    pub fn is_whole_at(&mut self, node: NodeName) -> Result<()> {
        self.address = node::must_run(self.lab, node, &self.name)?.address;
        let before = self.writes()?;
        self.has_written(before + 1)?;
        let answer = ask(self.lab, &self.address, "check")?;
        ensure!(answer.starts_with("bad 0 of "), "{} says of its pages: {answer}", self.name);
        Ok(())
    }

    /// How many pages it has written so far.
    pub fn writes(&self) -> Result<u64> {
        ask(self.lab, &self.address, "get")?.parse().context("understand how much was written")
    }

    fn has_written(&self, least: u64) -> Result<()> {
        let look = || Ok(self.writes().ok().filter(|writes| *writes >= least));
        Ok(until(&format!("{least} writes by {}", self.name), PATIENCE, look).map(drop)?)
    }
}

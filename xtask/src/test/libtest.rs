//! Reading what test programs print: Rust's own harness, and those that speak like it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// How many tests there were, and how they ended.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub passed: usize,
    pub failed: usize,
    pub skipped: Vec<Skipped>,
}

/// A test that was not run.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    pub test: String,
    pub why: String,
}

impl Skipped {
    /// Rust's harness says why as `ignored, WHY`, libtest-mimic as `ignored (WHY)`.
    fn new(name: &str, why: &str) -> Self {
        let why = why.strip_prefix(", ").unwrap_or(why);
        let why = why.strip_prefix(" (").and_then(|why| why.strip_suffix(')')).unwrap_or(why);
        let why = if why.is_empty() { "marked as ignored" } else { why };
        Skipped { test: name.to_owned(), why: why.to_owned() }
    }
}

impl Totals {
    pub fn add(&mut self, other: Totals) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }

    /// Counts one line of output; tells whether a person needs to see it.
    fn read(&mut self, line: &str) -> Seen {
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|test| test.rsplit_once(" ... "))
        else {
            let chatter =
                line.trim().is_empty() || line.starts_with("running ") || line.starts_with("test result: ok");
            return if chatter { Seen::Chatter } else { Seen::News };
        };
        // libtest-mimic pads names, so that the outcomes stand below each other.
        let name = name.trim_end();
        if let Some(why) = outcome.strip_prefix("ignored") {
            self.skipped.push(Skipped::new(name, why));
            return Seen::Routine;
        }
        match outcome {
            "ok" => self.passed += 1,
            "FAILED" => self.failed += 1,
            _ => {}
        }
        if outcome == "ok" { Seen::Routine } else { Seen::News }
    }
}

/// What a person needs to see of a line.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// A failure, or what a failed test said.
    News,
    /// A test that ended as it should: worth a line where tests are few and slow.
    Routine,
    /// Nothing.
    Chatter,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// Runs a test program, shows its output up to `least` and counts.
pub fn run(command: &mut Command, least: Seen) -> Result<Totals> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start the tests")?;
    let stdout = child.stdout.take().context("read what the tests print")?;
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        if totals.read(&line) <= least {
            println!("{line}");
        }
    }
    let status = child.wait().context("wait for the tests")?;
    if !status.success() && totals.failed == 0 {
        bail!("the tests could not be run to their end ({status})");
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_only_news_is_shown() {
        let mut totals = Totals::default();
        let shown: Vec<_> = "\
running 5 tests
test a::good ... ok
test src/lib.rs - doc (line 3) ... ok
test a::bad ... FAILED
test a::not_here ... ignored, no netem on this kernel
test a::later ... ignored
test lab::v1    ... ignored (this host has cgroup v2 only)

failures:
thread 'a::bad' panicked
test result: FAILED. 2 passed; 1 failed; 2 ignored
test result: ok. 0 passed; 0 failed"
            .lines()
            .filter(|line| totals.read(line) == Seen::News)
            .collect();
        assert_eq!(totals.to_string(), "2 passed, 1 failed, 3 skipped");
        assert_eq!(totals.skipped[0].test, "a::not_here");
        assert_eq!(totals.skipped[0].why, "no netem on this kernel");
        assert_eq!(totals.skipped[2].test, "lab::v1");
        assert_eq!(totals.skipped[2].why, "this host has cgroup v2 only");
        assert_eq!(shown[0], "test a::bad ... FAILED");
        assert_eq!(shown[1..3], ["failures:", "thread 'a::bad' panicked"]);
        assert_eq!(shown.len(), 4);
    }
}

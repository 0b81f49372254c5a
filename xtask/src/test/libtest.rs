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
    /// Rust's harness says why behind the outcome, libtest-mimic in front of the name, as the test's kind.
    fn new(name: &str, why: &str) -> Self {
        let kind = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let (why, test) = match kind {
            Some((kind, test)) if why.is_empty() => (kind, test),
            _ => (why, name),
        };
        let why = if why.is_empty() { "marked as ignored" } else { why };
        Skipped { test: test.to_owned(), why: why.to_owned() }
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
        match outcome.split_once(", ").unwrap_or((outcome, "")) {
            ("ok", _) => self.passed += 1,
            ("FAILED", _) => self.failed += 1,
            ("ignored", why) => {
                self.skipped.push(Skipped::new(name, why));
                return Seen::Chatter;
            }
            _ => return Seen::News,
        }
        if outcome == "ok" { Seen::Chatter } else { Seen::News }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    News,
    Chatter,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// Runs a test program, shows what is worth seeing and counts.
pub fn run(command: &mut Command) -> Result<Totals> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start the tests")?;
    let stdout = child.stdout.take().context("read what the tests print")?;
    let mut totals = Totals::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        if totals.read(&line) == Seen::News {
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
test [this host has cgroup v2 only] lab::v1 ... ignored

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

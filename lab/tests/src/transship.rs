//! `transship migrate`, called as a person would.

use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use transship_lab::{AGENT_PORT, Lab, Node, NodeName};

/// Longer than any migration here takes, so that none hangs a test.
const TIMEOUT: &str = "60s";

/// What `transship migrate --json` tells, as far as tests ask.
#[derive(Debug, Default, Deserialize)]
pub struct Report {
    pub ok: bool,
    pub reason: String,
    pub message: String,
    pub refused: bool,
    pub criu_log: String,
    phases: Vec<Phase>,
    #[serde(skip)]
    pub exit: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Phase {
    name: String,
}

/// A migration that is to be asked for.
#[derive(Debug, Clone)]
pub struct Migration {
    container: String,
    from: NodeName,
    to: String,
    more: Vec<String>,
}

/// One that has been asked for.
#[derive(Debug)]
pub struct Underway(Child);

/// A migration of that container to the other node.
pub fn migration(container: &str, from: NodeName) -> Migration {
    let to = format!("{}:{AGENT_PORT}", from.peer().address());
    Migration { container: container.to_owned(), from, to, more: vec![] }
}

/// Moves the container to the other node; anything but success is an error.
pub fn migrate(lab: &Lab, container: &str, from: NodeName) -> Result<()> {
    migration(container, from).run(lab)?.succeeded()
}

impl Migration {
    /// To somewhere else.
    pub fn to(mut self, address: &str) -> Self {
        self.to = address.to_owned();
        self
    }

    /// With another freeze budget, such as `3s`.
    pub fn budget(mut self, budget: &str) -> Self {
        self.more.push(format!("--freeze-budget={budget}"));
        self
    }

    /// Captured that way: `direct` or `cri`.
    pub fn capture(mut self, way: &str) -> Self {
        self.more.push(format!("--capture={way}"));
        self
    }

    /// Asks for it and waits for the answer.
    pub fn run(&self, lab: &Lab) -> Result<Report> {
        let output = self.command(lab.node(self.from))?.output().context("start transship migrate")?;
        Report::read(&output)
    }

    /// Asks for it.
    pub fn start(&self, lab: &Lab) -> Result<Underway> {
        let mut command = self.command(lab.node(self.from))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Underway(command.spawn().context("start transship migrate")?))
    }

    fn command(&self, node: &Node) -> Result<Command> {
        let mut command = node.command("transship")?;
        command.args(["migrate", &self.container, "--to", &self.to, "--timeout", TIMEOUT, "--json"]);
        command.args(&self.more);
        Ok(command)
    }
}

impl Underway {
    /// Waits for its answer.
    pub fn finish(self) -> Result<Report> {
        Report::read(&self.0.wait_with_output().context("wait for transship migrate")?)
    }

    /// Whether it has answered.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.0.try_wait().context("look at transship migrate")?.is_some())
    }
}

impl Report {
    fn read(output: &Output) -> Result<Self> {
        let mut report: Report = serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("understand what transship migrate said ({}): {said}", output.status)
        })?;
        report.exit = output.status.code();
        Ok(report)
    }

    /// Whether the container was asked to stand still.
    pub fn froze(&self) -> bool {
        self.phases.iter().any(|phase| phase.name == "freeze")
    }

    /// It says that the container was moved.
    pub fn succeeded(&self) -> Result<()> {
        ensure!(self.ok && self.exit == Some(0), "transship says {} ({})", self.reason, self.message);
        Ok(())
    }

    /// It says that the container runs on where it was, with one of these reasons and a word about what to do.
    pub fn failed_with(&self, reasons: &[&str]) -> Result<()> {
        if self.ok || self.exit != Some(1) || !reasons.contains(&self.reason.as_str()) {
            bail!(
                "not a failure for {reasons:?}: exit code {:?}, {}: {}",
                self.exit,
                self.reason,
                self.message
            );
        }
        self.says_something()
    }

    /// It says that nothing was touched, for that reason.
    pub fn refused_with(&self, reason: &str) -> Result<()> {
        if self.ok || self.exit != Some(3) || !self.refused || self.reason != reason || self.froze() {
            bail!("not refused for {reason}: exit code {:?}, {}: {}", self.exit, self.reason, self.message);
        }
        self.says_something()
    }

    /// What happened, and what to do: a sentence of two halves.
    fn says_something(&self) -> Result<()> {
        let halves = self.message.contains("; ") || self.message.contains(". ");
        ensure!(halves, "{} doesn't say what to do: {}", self.reason, self.message);
        Ok(())
    }
}

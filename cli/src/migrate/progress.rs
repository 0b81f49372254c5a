//! A migration while it goes on.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use transship_proto::phase_name;
use transship_proto::v1::Bytes;
use transship_proto::v1::migrate_event::{PhaseBegun, Started};

use super::report::Report;
use transship_terminal::units::{self, ms, span};

/// How often a live line's spinner turns.
const TICK: Duration = Duration::from_millis(80);

/// Shows phases as they begin. Phases overlap, so only the report knows when each one ended.
pub enum Progress {
    /// Nothing is shown.
    Silent,
    /// A line for each thing that happens.
    Plain,
    /// A line for each phase, the newest one alive.
    Live(Live),
}

/// The lines on a terminal.
pub struct Live {
    lines: MultiProgress,
    phases: Vec<ProgressBar>,
}

impl Progress {
    /// For a program that reads the report.
    pub fn silent() -> Self {
        Self::Silent
    }

    /// On standard error: alive if that is a terminal.
    pub fn on_stderr() -> Self {
        let lines = MultiProgress::new();
        if lines.is_hidden() { Self::Plain } else { Self::Live(Live { lines, phases: Vec::new() }) }
    }

    /// The agent has taken it up.
    pub fn started(&mut self, started: &Started) {
        let Started { migration, container, source_node, target_node, warnings } = started;
        self.line(&format!("migrating {container} {source_node} → {target_node} ({migration})"));
        for warning in warnings {
            self.line(&format!("note: {warning}"));
        }
    }

    /// A phase has begun.
    pub fn phase(&mut self, begun: PhaseBegun) {
        let (name, at) = (phase_name(begun.phase()), ms(begun.at_us));
        match self {
            Self::Silent => {}
            Self::Plain => self.line(&format!("{name} (at {})", span(at))),
            Self::Live(live) => live.phase(name, at),
        }
    }

    /// This much has been moved so far.
    pub fn bytes(&mut self, bytes: Bytes) {
        // On paper, a figure that changes all the time is noise.
        if let Self::Live(Live { phases, .. }) = self
            && let Some(line) = phases.last()
        {
            line.set_message(format!(
                "{} state, {} sent",
                units::bytes(bytes.total),
                units::bytes(bytes.sent)
            ));
        }
    }

    /// It is over: live lines stay, each with how long it took, if that is known.
    pub fn finish(self, report: &Report) {
        if let Self::Live(live) = self {
            live.rest();
            for line in &live.phases {
                let name = line.prefix();
                match report.phase_lengths().find(|(phase, _)| *phase == name) {
                    Some((_, length)) => line.finish_with_message(span(length)),
                    None => line.finish(),
                }
            }
        }
    }

    fn line(&self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Plain => eprintln!("{text}"),
            // It fails if standard error is gone, and then nobody reads it.
            Self::Live(live) => drop(live.lines.println(text)),
        }
    }
}

impl Live {
    fn phase(&mut self, name: String, at: f64) {
        self.rest();
        let line =
            self.lines.add(ProgressBar::new_spinner().with_style(style("{spinner}")).with_prefix(name));
        line.set_message(format!("at {}", span(at)));
        line.enable_steady_tick(TICK);
        self.phases.push(line);
    }

    /// The newest line comes to rest.
    fn rest(&self) {
        if let Some(line) = self.phases.last() {
            line.disable_steady_tick();
            line.set_style(style(" "));
        }
    }
}

/// A phase's line that begins like that.
fn style(begin: &str) -> ProgressStyle {
    // The template is a constant; were it wrong, indicatif's own would show as much.
    ProgressStyle::with_template(&format!("{begin} {{prefix:<10}} {{msg}}"))
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

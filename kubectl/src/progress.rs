//! A migration while it goes on, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use transship_coordinator::api::{ConditionType, Phase, PodMigration, PodMigrationStatus, condition};
use transship_terminal::units::bytes;

/// How often the line's spinner turns.
const TICK: Duration = Duration::from_millis(80);

/// One live line on a terminal, a line for each change else.
pub struct Progress {
    line: ProgressBar,
    shown: String,
    warned: usize,
}

impl Progress {
    /// On standard error.
    pub fn on_stderr() -> Self {
        let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {msg}");
        let line = line.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        line.enable_steady_tick(TICK);
        Self { line, shown: String::new(), warned: 0 }
    }

    /// For a program that reads the result.
    pub fn silent() -> Self {
        Self { line: ProgressBar::hidden(), shown: String::new(), warned: usize::MAX }
    }

    /// How it is now.
    pub fn show(&mut self, migration: &PodMigration) {
        let Some(status) = &migration.status else { return };
        for warning in status.warnings.iter().skip(self.warned) {
            self.say(&format!("note: {warning}"));
        }
        if self.warned != usize::MAX {
            self.warned = status.warnings.len();
        }
        // What changes all the time is for a live line only.
        let live = !self.line.is_hidden();
        let now = describe(&migration.spec.pod_ref.name, status, live);
        if now == self.shown || self.warned == usize::MAX {
            return;
        }
        if live {
            self.line.set_message(now.clone());
        } else {
            eprintln!("{now}");
        }
        self.shown = now;
    }

    /// The live line goes.
    pub fn finish(&self) {
        self.line.finish_and_clear();
    }

    fn say(&self, text: &str) {
        if self.line.is_hidden() { eprintln!("{text}") } else { self.line.println(text) }
    }
}

fn describe(pod: &str, status: &PodMigrationStatus, with_bytes: bool) -> String {
    let route = match (&status.source, &status.target) {
        (Some(source), Some(target)) => format!(" {} → {}", source.node, target.node),
        (Some(source), None) => format!(" from {}", source.node),
        _ => String::new(),
    };
    let mut text = format!("{pod}{route} · {}", words(status.phase));
    if let Some(bytes_now) = status.bytes.filter(|_| with_bytes) {
        let size = |size: i64| bytes(u64::try_from(size).unwrap_or(0));
        text += &format!(" · {} state, {} sent", size(bytes_now.total), size(bytes_now.sent));
    }
    // How it ended is for the result to tell.
    let ends = condition(status, ConditionType::Released).is_some();
    if let Some(message) = status.message.as_ref().filter(|_| !ends) {
        text += &format!(" · {message}");
    }
    text
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "waiting for the coordinator",
        Phase::Preflight => "checking",
        Phase::Preparing => "preparing the target",
        Phase::Frozen => "frozen, moving its state",
        Phase::Restoring => "restoring",
        Phase::Released => "running on its new node, handing over",
        Phase::Succeeded => "done",
        Phase::Failed => "failed",
        Phase::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use transship_coordinator::api::{Bytes, SourceStatus, TargetStatus};

    use super::*;

    #[test]
    fn a_line_says_what_goes_on() {
        let status = PodMigrationStatus {
            phase: Phase::Frozen,
            source: Some(SourceStatus { node: "a".into(), pod_uid: String::new() }),
            target: Some(TargetStatus { node: "b".into(), ..TargetStatus::default() }),
            bytes: Some(Bytes { total: 1 << 30, sent: 200 << 20, ..Bytes::default() }),
            ..PodMigrationStatus::default()
        };
        let line = "web a → b · frozen, moving its state";
        assert_eq!(describe("web", &status, false), line);
        assert_eq!(describe("web", &status, true), format!("{line} · 1.0 GiB state, 200 MiB sent"));
    }
}

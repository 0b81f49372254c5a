//! How a migration went: for the shell and for people.

use std::time::Duration;

use transship_coordinator::api::{ConditionType, Phase, PodMigration, PodMigrationStatus, condition};
use transship_terminal::{Exit, Migrated};

/// What the shell is told of a migration that is over.
pub fn exit(status: &PodMigrationStatus) -> Exit {
    let refused =
        condition(status, ConditionType::Preflighted).is_some_and(|passed| passed.status == "False");
    match status.phase {
        Phase::Succeeded => Exit::Done,
        _ if refused => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// One line if it went well, else a paragraph.
pub fn text(migration: &PodMigration) -> String {
    let pod = &migration.spec.pod_ref.name;
    let status = migration.status.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    let reason = status.reason.clone().unwrap_or_default();
    let node = |node: Option<String>| node.unwrap_or_else(|| "?".into());
    let source = node(status.source.clone().map(|source| source.node));
    let target = node(status.target.clone().map(|target| target.node));
    if status.phase == Phase::Succeeded && migration.spec.dry_run {
        let notes = status.warnings.iter().map(|warning| format!("\n  note: {warning}"));
        return format!("{pod} can be migrated {source} → {target}{}", notes.collect::<String>());
    }
    if status.phase == Phase::Succeeded {
        let bytes = status.bytes.unwrap_or_default();
        let size = |size: i64| u64::try_from(size).unwrap_or(0);
        let line = Migrated {
            what: pod,
            source: &source,
            target: &target,
            freeze_ms: status
                .freeze_duration
                .map_or(0.0, |freeze| Duration::from(freeze).as_secs_f64() * 1000.0),
            state: size(bytes.total),
            sent: size(bytes.sent),
            took_ms: took(&status).as_secs_f64() * 1000.0,
        };
        return line.to_string();
    }
    let (verb, rest) = match exit(&status) {
        Exit::Refused => ("can't be migrated", "\n  Nothing was touched."),
        _ if reason == "AgentLost" => ("may not have been migrated", ""),
        _ => ("was not migrated", "\n  It runs on where it was."),
    };
    let mut text = format!("{pod} {verb} ({reason})\n  {message}{rest}");
    if let Some(freeze) = status.freeze_duration {
        text += &format!("\n  It stood still for {freeze}.");
    }
    text
}

/// From when the coordinator took it up to its end.
pub fn took(status: &PodMigrationStatus) -> Duration {
    let ends = status.start_time.as_ref().zip(status.completion_time.as_ref());
    let took = ends.map(|(start, end)| end.0.duration_since(start.0)).unwrap_or_default();
    Duration::try_from(took).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn migration(status: serde_json::Value) -> PodMigration {
        serde_json::from_value(
            json!({"metadata": {"name": "m"}, "spec": {"podRef": {"name": "web"}}, "status": status}),
        )
        .unwrap()
    }

    #[test]
    fn a_success_is_one_line() {
        let done = migration(
            json!({"phase": "Succeeded", "source": {"node": "a", "podUID": "s"}, "target": {"node": "b"},
            "freezeDuration": "312ms", "bytes": {"total": 67108864, "sent": 6710886, "deduplicated": 0, "zero": 0},
            "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:03Z"}),
        );
        assert_eq!(text(&done), "web migrated a → b · frozen 312 ms · 64 MiB state, 6.4 MiB sent · 3.0 s");
        assert_eq!(exit(&done.status.unwrap()), Exit::Done);
    }

    #[test]
    fn a_refusal_is_told_from_a_failure() {
        let condition = |kind: &str| json!([{"type": kind, "status": "False", "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let refused = migration(
            json!({"phase": "Failed", "reason": "IoUring", "message": "m", "conditions": condition("Preflighted")}),
        );
        assert_eq!(text(&refused), "web can't be migrated (IoUring)\n  m\n  Nothing was touched.");
        assert_eq!(exit(&refused.status.unwrap()), Exit::Refused);
        let failed = migration(
            json!({"phase": "Failed", "reason": "RestoreFailed", "message": "m", "conditions": condition("Released")}),
        );
        assert_eq!(text(&failed), "web was not migrated (RestoreFailed)\n  m\n  It runs on where it was.");
        assert_eq!(exit(&failed.status.unwrap()), Exit::Failed);
    }
}

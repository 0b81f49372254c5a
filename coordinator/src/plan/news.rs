//! What is worth an event on the migration and on both Pods.

use crate::api::{ConditionType, PodMigrationStatus, condition};

/// An event to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// CamelCase.
    pub reason: String,
    /// For a person.
    pub note: String,
    /// Whether somebody should have a look.
    pub warning: bool,
}

/// What has changed from one status to the next.
pub fn news(before: &PodMigrationStatus, after: &PodMigrationStatus) -> Vec<News> {
    let mut found = Vec::new();
    let standing = |status: &PodMigrationStatus, kind| {
        condition(status, kind).map(|condition| (condition.status.clone(), condition.message.clone()))
    };
    let queued = standing(after, ConditionType::Queued);
    if let Some((_, message)) = queued.filter(|(status, _)| status == "True")
        && standing(before, ConditionType::Queued).is_none()
    {
        found.push(News { reason: "Queued".into(), note: message, warning: false });
    }
    if before.phase != after.phase {
        let route = match (&after.source, &after.target) {
            (Some(source), Some(target)) => format!("{} → {}", source.node, target.node),
            (Some(source), None) => format!("from {}", source.node),
            _ => String::new(),
        };
        let why = after.message.as_deref().unwrap_or_default();
        let reason = after.reason.as_deref().unwrap_or_default();
        let note = [route.as_str(), reason, why].into_iter().filter(|part| !part.is_empty());
        found.push(News {
            reason: after.phase.to_string(),
            note: note.collect::<Vec<_>>().join(": "),
            warning: after.phase == crate::api::Phase::Failed,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Phase, SourceStatus};

    #[test]
    fn a_new_phase_is_news_and_the_same_one_is_not() {
        let source = Some(SourceStatus { node: "a".into(), pod_uid: "s".into() });
        let before = PodMigrationStatus { source, ..PodMigrationStatus::default() };
        let after = PodMigrationStatus {
            phase: Phase::Failed,
            reason: Some("CpuMismatch".into()),
            message: Some("b lacks avx".into()),
            ..before.clone()
        };
        assert_eq!(news(&after, &after), []);
        let told = news(&before, &after);
        assert_eq!(told[0].note, "from a: CpuMismatch: b lacks avx");
        assert!(told[0].warning && told[0].reason == "Failed" && told.len() == 1);
    }
}

//! What is counted, in Prometheus' words.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::api::{Phase, PodMigrationStatus};

/// Upper bounds of freezes, in seconds.
const FREEZES: [f64; 10] = [0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0];

/// How a migration ended. The reasons are a fixed set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    result: String,
    reason: String,
}

/// Everything that is counted. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    endings: Family<Ending, Counter>,
    active: Gauge,
    waiting: Gauge,
    freezes: Histogram,
    leads: Gauge,
    stale: Gauge,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let (endings, active, waiting) = (Family::default(), Gauge::default(), Gauge::default());
        let (freezes, leads, stale) = (Histogram::new(FREEZES), Gauge::default(), Gauge::default());
        let mut all = Registry::with_prefix("transship");
        all.register("migrations", "Migrations that are over", endings.clone());
        all.register("migrations_active", "Migrations that have a permit", active.clone());
        all.register("migrations_waiting", "Migrations that wait for one", waiting.clone());
        all.register("freeze_seconds", "How long workloads stood still", freezes.clone());
        all.register("coordinator_leads", "1 while this coordinator leads", leads.clone());
        all.register(
            "watch_stale_seconds",
            "How long the watch of migrations has been behind the API server",
            stale.clone(),
        );
        Self { registry: Arc::new(all), endings, active, waiting, freezes, leads, stale }
    }

    /// Counts what one status has more than the one before.
    pub fn count(&self, before: &PodMigrationStatus, after: &PodMigrationStatus) {
        if before.freeze_duration.is_none()
            && let Some(freeze) = after.freeze_duration
        {
            self.freezes.observe(std::time::Duration::from(freeze).as_secs_f64());
        }
        if after.phase.is_final() && !before.phase.is_final() {
            let reason = if after.phase == Phase::Succeeded { None } else { after.reason.clone() };
            let ending = Ending { result: after.phase.to_string(), reason: reason.unwrap_or_default() };
            self.endings.get_or_create(&ending).inc();
        }
    }

    /// How many have a permit and how many wait for one.
    pub fn queue(&self, active: usize, waiting: usize) {
        self.active.set(i64::try_from(active).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    /// How long the watch has been behind, in seconds.
    pub fn stale(&self, seconds: u64) {
        self.stale.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// How long the watch has been behind, in seconds.
    pub fn stale_seconds(&self) -> i64 {
        self.stale.get()
    }

    /// Everything as text.
    ///
    /// # Errors
    /// When the text can't be made, which means a broken metric.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_counted_once_with_its_reason() {
        let metrics = Metrics::new();
        let failed = PodMigrationStatus {
            phase: Phase::Failed,
            reason: Some("CpuMismatch".into()),
            ..PodMigrationStatus::default()
        };
        metrics.count(&PodMigrationStatus::default(), &failed);
        metrics.count(&failed, &failed);
        let text = metrics.text().unwrap();
        let line = r#"transship_migrations_total{result="Failed",reason="CpuMismatch"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}

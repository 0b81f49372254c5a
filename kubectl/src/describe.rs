//! `kubectl migrate describe`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{Table, presets};
use kube::ResourceExt;
use transship_coordinator::api::{PodMigration, PodMigrationStatus};
use transship_proto::{phase_name, v1::Phase};
use transship_terminal::Exit;
use transship_terminal::units::{bytes, span};

use crate::cluster::{Place, told};

/// How wide the longest phase is drawn.
const WIDTH: f64 = 40.0;

/// What `kubectl migrate describe` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The migration.
    name: String,
}

pub async fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let migration = cluster.migrations().get(&arguments.name).await.map_err(told)?;
    print!("{}", text(&migration)?);
    Ok(Exit::Done)
}

fn text(migration: &PodMigration) -> Result<String> {
    let (spec, status) = (&migration.spec, migration.status.clone().unwrap_or_default());
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if value.is_empty() { Ok(()) } else { writeln!(text, "{:<14}{value}", format!("{name}:")) }
    };
    line("Name", migration.name_any())?;
    line("Namespace", migration.namespace().unwrap_or_default())?;
    line("Pod", spec.pod_ref.name.clone())?;
    line("Phase", status.phase.to_string())?;
    line("Reason", status.reason.clone().unwrap_or_default())?;
    line("Message", status.message.clone().unwrap_or_default())?;
    line("Source", status.source.clone().map(|source| source.node).unwrap_or_default())?;
    let target = status.target.clone().unwrap_or_default();
    line("Target", target.node)?;
    line("Target Pod", target.pod_name.unwrap_or_default())?;
    line("Capture", format!("{:?}", spec.capture))?;
    line("Budget", format!("{} frozen, {} in all", spec.freeze_budget, spec.timeout))?;
    line("Frozen", status.freeze_duration.map(|freeze| span(ms(freeze.into()))).unwrap_or_default())?;
    line("State", status.bytes.map(moved).unwrap_or_default())?;
    for warning in &status.warnings {
        line("Note", warning.clone())?;
    }
    section(&mut text, "Timeline", &timeline(&status))?;
    section(&mut text, "Conditions", &conditions(&status))?;
    section(&mut text, "Nodes that were not taken", &rejected(&status))?;
    Ok(text)
}

fn section(text: &mut String, name: &str, rows: &[Vec<String>]) -> std::fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows.iter().cloned());
    let lines: String = table.trim_fmt().lines().map(|line| format!(" {line}\n")).collect();
    write!(text, "{name}:\n{lines}")
}

/// How long each phase took. Phases overlap, so their sum is no length of anything.
fn timeline(status: &PodMigrationStatus) -> Vec<Vec<String>> {
    let took = |name: &String| status.phase_durations.get(name).map(|took| ms((*took).into()));
    let longest = status.phase_durations.values().map(|took| ms((*took).into())).fold(1.0, f64::max);
    let phases = (1..).map_while(|number| Phase::try_from(number).ok()).filter_map(|phase| {
        let name = phase_name(phase);
        let took = took(&name)?;
        let bar = "▇".repeat((took / longest * WIDTH).ceil() as usize);
        Some(vec![name, span(took), bar])
    });
    phases.collect()
}

fn conditions(status: &PodMigrationStatus) -> Vec<Vec<String>> {
    let row = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let when = condition.last_transition_time.0.to_string();
        vec![
            condition.type_.clone(),
            condition.status.clone(),
            when,
            condition.reason.clone(),
            condition.message.clone(),
        ]
    };
    status.conditions.iter().map(row).collect()
}

fn rejected(status: &PodMigrationStatus) -> Vec<Vec<String>> {
    status
        .rejected
        .iter()
        .map(|node| vec![node.node.clone(), node.reason.clone(), node.message.clone()])
        .collect()
}

fn moved(size: transship_coordinator::api::Bytes) -> String {
    let size_of = |size: i64| bytes(u64::try_from(size).unwrap_or(0));
    format!(
        "{}, of which {} sent, {} zero, {} there already",
        size_of(size.total),
        size_of(size.sent),
        size_of(size.zero),
        size_of(size.deduplicated)
    )
}

fn ms(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn phases_are_in_their_order_and_what_is_unknown_is_left_out() {
        let migration: PodMigration = serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "shop"}, "spec": {"podRef": {"name": "web"}},
            "status": {"phase": "Succeeded", "phaseDurations": {"restore": "200ms", "freeze": "10ms", "capture": "400ms"}}}))
        .unwrap();
        let text = text(&migration).unwrap();
        let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
        assert!(at("freeze ") < at("capture ") && at("capture ") < at("restore "), "{text}");
        assert!(text.contains("Phase:        Succeeded") && !text.contains("Reason:"), "{text}");
    }
}

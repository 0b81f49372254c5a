//! `kubectl migrate list`.

use anyhow::Result;
use comfy_table::{Table, presets};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use transship_coordinator::api::PodMigration;
use transship_terminal::Exit;
use transship_terminal::units::bytes;

use crate::cluster::{Place, told};

/// What `kubectl migrate list` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

pub async fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let api = if arguments.all_namespaces { Api::all(cluster.client.clone()) } else { cluster.migrations() };
    let mut found = api.list(&ListParams::default()).await.map_err(told)?.items;
    found.sort_by_key(|migration| migration.creation_timestamp());
    if found.is_empty() {
        eprintln!("no migrations");
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut header = vec!["NAME", "POD", "SOURCE", "TARGET", "PHASE", "FREEZE", "SENT", "AGE", "REASON"];
    if arguments.all_namespaces {
        header.insert(0, "NAMESPACE");
    }
    table.set_header(header);
    for migration in &found {
        let mut row = row(migration);
        if arguments.all_namespaces {
            row.insert(0, migration.namespace().unwrap_or_default());
        }
        table.add_row(row);
    }
    println!("{}", table.trim_fmt());
    Ok(Exit::Done)
}

fn row(migration: &PodMigration) -> Vec<String> {
    let status = migration.status.clone().unwrap_or_default();
    let made = migration.creation_timestamp().map(|made| made.0);
    vec![
        migration.name_any(),
        migration.spec.pod_ref.name.clone(),
        status.source.map(|source| source.node).unwrap_or_default(),
        status.target.map(|target| target.node).unwrap_or_default(),
        status.phase.to_string(),
        status.freeze_duration.map(|freeze| freeze.to_string()).unwrap_or_default(),
        status.bytes.map(|moved| bytes(u64::try_from(moved.sent).unwrap_or(0))).unwrap_or_default(),
        made.map(|made| age(Timestamp::now().duration_since(made))).unwrap_or_default(),
        status.reason.unwrap_or_default(),
    ]
}

/// As kubectl has it: one unit.
fn age(span: SignedDuration) -> String {
    match span.as_secs().max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds @ 7200..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let ages = [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d"), (-5, "0s")];
        for (seconds, text) in ages {
            assert_eq!(age(SignedDuration::from_secs(seconds)), text);
        }
    }
}

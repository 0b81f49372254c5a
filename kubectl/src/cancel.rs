//! `kubectl migrate cancel`.

use anyhow::Result;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use transship_terminal::Exit;

use crate::cluster::{Place, told};

/// What `kubectl migrate cancel` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The migration.
    name: String,
}

pub async fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let patch = Patch::Merge(json!({"spec": {"cancel": true}}));
    let asked = cluster.migrations().patch(&arguments.name, &PatchParams::default(), &patch).await;
    let phase = asked.map_err(told)?.status.unwrap_or_default().phase;
    if phase.is_final() {
        eprintln!("{} is over already ({phase})", arguments.name);
        return Ok(Exit::Failed);
    }
    println!("{} is asked to stop; kubectl migrate describe {0} tells how it ended", arguments.name);
    Ok(Exit::Done)
}

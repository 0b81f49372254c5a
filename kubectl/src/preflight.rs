//! `kubectl migrate preflight`: a migration that is asked for with `dryRun`, and goes again.

use std::time::Duration;

use anyhow::Result;
use kube::ResourceExt;
use kube::api::DeleteParams;
use transship_terminal::Exit;

use crate::cluster::Place;
use crate::follow::Ended;
use crate::pod::{self, Capture, span};
use crate::progress::Progress;
use crate::result;

/// What `kubectl migrate preflight` is told.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 it can be moved; 2 called wrongly; 3 it can't; 4 no answer within --timeout."
)]
pub struct Arguments {
    /// The Pod.
    pod: String,
    /// The node that it would move to; without it, one is chosen.
    #[arg(long = "to", value_name = "NODE")]
    node: Option<String>,
    /// How its state would be captured.
    #[arg(long, value_enum, default_value_t)]
    capture: Capture,
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = span)]
    timeout: Duration,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let asked = pod::Arguments {
        pod: arguments.pod,
        node: arguments.node,
        selector: Vec::new(),
        capture: arguments.capture,
        freeze_budget: Duration::from_secs(10),
        wait: true,
        timeout: arguments.timeout,
        dry_run: true,
        output: None,
    };
    let made = pod::make(&cluster, asked).await?;
    let ended = pod::wait(&cluster, &made, arguments.timeout, Progress::silent()).await;
    if let Err(error) = cluster.migrations().delete(&made.name_any(), &DeleteParams::default()).await {
        eprintln!("{} stays: {error}", made.name_any());
    }
    let Ended::Over(over) = ended? else {
        eprintln!("no answer within {:?}: does the coordinator run?", arguments.timeout);
        return Ok(Exit::TimedOut);
    };
    let exit = result::exit(&over.status.clone().unwrap_or_default());
    if exit == Exit::Done {
        println!("{}", result::text(&over));
    } else {
        eprintln!("{}", result::text(&over));
    }
    Ok(exit)
}

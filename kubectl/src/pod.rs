//! `kubectl migrate pod`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::ResourceExt;
use kube::api::PostParams;
use transship_coordinator::api::{self, PodMigration, PodMigrationSpec};
use transship_terminal::Exit;

use crate::cluster::{Cluster, Place, told};
use crate::follow::{Ended, follow};
use crate::progress::Progress;
use crate::result;

/// Room for a generated name's end, within the 63 characters that a migration's name may have.
const STEM: usize = 57;

/// What `kubectl migrate pod` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 failed, and the Pod runs on where it was; 2 called wrongly; 3 refused before anything was touched; \
4 not done within --timeout, and it goes on.")]
pub struct Arguments {
    /// The Pod.
    pub pod: String,
    /// The node that it moves to; without it, one is chosen.
    #[arg(long = "to", value_name = "NODE")]
    pub node: Option<String>,
    /// A label that a chosen node must have; may be given several times.
    #[arg(long = "node-selector", value_name = "KEY=VALUE", value_parser = label)]
    pub selector: Vec<(String, String)>,
    /// How the Pod's state is captured.
    #[arg(long, value_enum, default_value_t)]
    pub capture: Capture,
    /// How long it may stand still; when this is over and nothing is decided, it runs on where it was.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    pub freeze_budget: Duration,
    /// Wait for the end and show how it goes.
    #[arg(long, short)]
    pub wait: bool,
    /// How long to wait at the most.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = span)]
    pub timeout: Duration,
    /// Go through every check, say what would happen, and change nothing. Waits for the answer.
    #[arg(long)]
    pub dry_run: bool,
    /// Print the migration's object, and nothing else: when it was made, or, with --wait, at its end.
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub output: Option<Output>,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum Capture {
    /// The best that works on its node.
    #[default]
    Auto,
    /// CRIU by the OCI runtime, straight into memory.
    Direct,
    /// The kubelet's checkpoint.
    Kubelet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Json,
    Yaml,
    Name,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let (output, limit) = (arguments.output, arguments.timeout);
    let waits = arguments.wait || arguments.dry_run;
    let made = make(&cluster, arguments).await?;
    if !waits {
        match output {
            Some(output) => print(&made, output)?,
            None => println!("{} created", name(&made)),
        }
        return Ok(Exit::Done);
    }
    let progress = if output.is_some() { Progress::silent() } else { Progress::on_stderr() };
    let ended = wait(&cluster, &made, limit, progress).await?;
    let Ended::Over(over) = ended else {
        eprintln!(
            "{} is not over after {limit:?} and goes on: kubectl migrate describe {0}",
            made.name_any()
        );
        return Ok(Exit::TimedOut);
    };
    let exit = result::exit(&over.status.clone().unwrap_or_default());
    match output {
        Some(output) => print(&over, output)?,
        None if exit == Exit::Done => println!("{}", result::text(&over)),
        None => eprintln!("{}", result::text(&over)),
    }
    Ok(exit)
}

/// Makes the object that asks for the move.
pub async fn make(cluster: &Cluster, arguments: Arguments) -> Result<PodMigration> {
    let spec = PodMigrationSpec {
        target_node: arguments.node,
        node_selector: arguments.selector.into_iter().collect::<BTreeMap<_, _>>(),
        capture: match arguments.capture {
            Capture::Auto => api::Capture::Auto,
            Capture::Direct => api::Capture::Direct,
            Capture::Kubelet => api::Capture::Kubelet,
        },
        freeze_budget: arguments.freeze_budget.into(),
        dry_run: arguments.dry_run,
        ..PodMigrationSpec::of(&*arguments.pod)
    };
    let mut migration = PodMigration::new("", spec);
    let stem: String = arguments.pod.chars().take(STEM).collect();
    migration.metadata.name = None;
    migration.metadata.generate_name = Some(format!("{stem}-"));
    cluster.migrations().create(&PostParams::default(), &migration).await.map_err(told)
}

/// Waits for its end. Ctrl-C ends the waiting and not the migration.
pub async fn wait(
    cluster: &Cluster,
    migration: &PodMigration,
    limit: Duration,
    mut progress: Progress,
) -> Result<Ended> {
    let name = migration.name_any();
    let ended = follow(cluster, &name, limit, |state| progress.show(state)).await;
    progress.finish();
    ended
}

fn name(migration: &PodMigration) -> String {
    format!("podmigration.transship.io/{}", migration.name_any())
}

pub fn print(migration: &PodMigration, output: Output) -> Result<()> {
    match output {
        Output::Name => println!("{}", name(migration)),
        Output::Json => println!("{}", serde_json::to_string_pretty(migration)?),
        Output::Yaml => {
            print!("{}", serde_saphyr::to_string(migration).context("the object can't be shown")?)
        }
    }
    Ok(())
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it like zone=a")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub fn span(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|error| format!("{error}; write it like 10s or 1m30s"))?;
    match Duration::try_from(span) {
        Ok(span) if !span.is_zero() => Ok(span),
        _ => Err("it must be more than nothing".into()),
    }
}

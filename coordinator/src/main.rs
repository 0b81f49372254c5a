//! `transship-coordinator`.

use clap::{Parser, Subcommand};

/// Moves Pods between the nodes of a cluster, as PodMigration objects ask.
#[derive(Debug, Parser)]
#[command(name = "transship-coordinator", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the definition of the custom resource, for `kubectl apply -f -`.
    Crd,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Crd => print!("{}", transship_coordinator::crd()?),
    }
    Ok(())
}

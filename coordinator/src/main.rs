//! `transship-coordinator`.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Moves Pods between the nodes of a cluster, as PodMigration objects ask.
#[derive(Debug, Parser)]
#[command(name = "transship-coordinator", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring migrations on, as the leader of all coordinators that run.
    Run(Box<transship_coordinator::Settings>),
    /// Print the definition of the custom resource, for `kubectl apply -f -`.
    Crd,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(settings) => {
            log_to_stderr();
            transship_coordinator::run(*settings).await
        }
        Command::Crd => transship_coordinator::crd().map(|text| print!("{text}")).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transship-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `RUST_LOG` chooses what is logged, as in `transship_coordinator=debug`.
fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}

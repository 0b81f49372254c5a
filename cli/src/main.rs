//! `transship`: the agent of a node, and what people say to it.

mod agent;
mod doctor;
mod migrate;
mod pki;
mod version;

use clap::{Parser, Subcommand};
use transship_terminal::Exit;

/// Moves running containers from one node to another, live.
///
/// Every node runs `transship agent`. `transship migrate`, on the node where the container runs, moves it; `transship
/// doctor` says what a node still lacks for that.
#[derive(Debug, Parser)]
#[command(name = "transship", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this node's agent, which sends containers and takes them in.
    Agent(Box<transship_agent::Config>),
    /// Bring a migration to its end where no agent is left to do so.
    #[command(hide = true)]
    Recover(Box<agent::Recover>),
    /// Move a running container of this node to another node.
    Migrate(migrate::Arguments),
    /// Check what this node can do; say how to mend what it can't.
    Doctor(Box<doctor::Arguments>),
    /// Make the certificates by which nodes know each other.
    #[command(subcommand)]
    Pki(pki::Command),
    /// Say which version this is.
    Version(version::Arguments),
}

#[tokio::main]
async fn main() -> Exit {
    let done = match Cli::parse().command {
        Command::Agent(config) => agent::run(*config).await.map(|()| Exit::Done),
        Command::Recover(recover) => agent::recover(*recover).await.map(|()| Exit::Done),
        Command::Migrate(arguments) => migrate::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(&arguments).await,
        Command::Pki(command) => pki::run(&command).map(|()| Exit::Done),
        Command::Version(arguments) => version::run(&arguments).map(|()| Exit::Done),
    };
    done.unwrap_or_else(|error| {
        eprintln!("transship: {error:#}");
        Exit::Failed
    })
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

//! `kubectl-migrate`, which kubectl runs as `kubectl migrate`.

mod cancel;
mod cluster;
mod describe;
mod follow;
mod list;
mod nodes;
mod pod;
mod preflight;
mod progress;
mod result;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use transship_terminal::Exit;

use cluster::Place;

/// Moves running Pods to other nodes without losing what is in their memory.
#[derive(Debug, Parser)]
#[command(name = "kubectl-migrate", bin_name = "kubectl migrate", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move a Pod to another node.
    Pod(pod::Arguments),
    /// Go through every check of a move, and change nothing.
    Preflight(preflight::Arguments),
    /// List migrations.
    #[command(visible_alias = "ls")]
    List(list::Arguments),
    /// Show all about one migration, with how long each phase took.
    Describe(describe::Arguments),
    /// Ask for the end of a migration: heard until it is decided which Pod lives.
    Cancel(cancel::Arguments),
    /// Show what each node can do, and why not.
    Nodes(nodes::Arguments),
    /// Say which version this is.
    Version,
    /// Print a completion script, as in `source <(kubectl-migrate completion bash)`.
    Completion {
        /// The shell that it is for.
        shell: Shell,
    },
}

#[tokio::main]
async fn main() -> Exit {
    let Cli { place, command } = Cli::parse();
    let done = match command {
        Command::Pod(arguments) => pod::run(&place, arguments).await,
        Command::Preflight(arguments) => preflight::run(&place, arguments).await,
        Command::List(arguments) => list::run(&place, &arguments).await,
        Command::Describe(arguments) => describe::run(&place, &arguments).await,
        Command::Cancel(arguments) => cancel::run(&place, &arguments).await,
        Command::Nodes(arguments) => nodes::run(&place, &arguments).await,
        Command::Version => {
            println!("kubectl-migrate {} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
            Ok(Exit::Done)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-migrate", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("kubectl migrate: {error:#}");
        Exit::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}

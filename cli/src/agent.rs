//! `transship agent` and `transship recover`: the processes that do the work.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use transship_agent::Config;

/// What `transship recover` is told; the watchdog calls it with the settings of the agent that is gone.
#[derive(Debug, clap::Args)]
pub struct Recover {
    /// The migration that is to be brought to its end.
    #[arg(long, value_name = "ID")]
    migration: String,
    #[command(flatten)]
    config: Config,
}

/// Runs the node's agent until it is told to end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    log_to_stderr();
    Ok(transship_agent::run(config).await?)
}

/// Brings one migration to its end.
pub async fn recover(recover: Recover) -> anyhow::Result<()> {
    log_to_stderr();
    Ok(transship_agent::recover(recover.config, &recover.migration).await?)
}

/// `RUST_LOG` chooses what is logged, as in `transship_agent=debug`.
fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

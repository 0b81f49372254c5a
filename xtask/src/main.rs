//! `cargo xtask …`: every habit of the project in one place.

mod build;
mod lab;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, tests and shows transship. Nothing has to be set up first.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Two real nodes on this machine, to play with.
    #[command(subcommand)]
    Lab(lab::Task),
}

fn main() -> ExitCode {
    let result = match Options::parse().task {
        Task::Lab(task) => lab::run(task),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

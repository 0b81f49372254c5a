//! `cargo xtask …`: every habit of the project in one place.

mod bench;
mod build;
mod ci;
mod demo;
mod lab;
mod test;

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
    /// Move a container that keeps state from one real node to another, and show what happened.
    Demo(demo::Options),
    /// Run the tests: all suites, or one, or those of a name.
    Test(test::Options),
    /// Measure: the transfer, the freeze, the wrapper, each beside what it could be at best.
    Bench(bench::Options),
    /// Two real nodes on this machine, to play with.
    #[command(subcommand)]
    Lab(lab::Task),
    /// Check what a change has to pass before its tests: format, lints, documentation, dependencies.
    Check,
    /// `check`, then all tests.
    Ci(test::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Lab(task) => lab::run(task),
        Task::Check => ci::check().map(|()| ExitCode::SUCCESS),
        Task::Ci(options) => ci::check().and_then(|()| test::run(&options)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Options::command().debug_assert();
    }
}

//! Running programs so that a failure says which one, with what, and what it answered.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{LabError, Result};

/// The last argument before the program in a machine's command.
pub(crate) const ENTERED: &str = "--pdeathsig=KILL";

/// Runs `command` to its end and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    finish(command, None)
}

/// Like [`output`], with `input` on its standard input.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    finish(command, Some(input))
}

fn finish(command: &mut Command, input: Option<&str>) -> Result<String> {
    let spawn_error = |source, command: &Command| LabError::Spawn { command: describe(command), source };
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| spawn_error(e, command))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends before it has read everything is judged by its exit status below.
        match stdin.write_all(input.as_bytes()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(spawn_error(e, command)),
            _ => {}
        }
    }
    let out = child.wait_with_output().map_err(|e| spawn_error(e, command))?;
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    if out.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&out.stderr);
    let output = format!("{}\n{}", stderr.trim(), stdout.trim()).trim().to_owned();
    Err(LabError::Command { command: describe(command), status: out.status, output })
}

/// The program and its arguments as one would type them.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    // What it takes to get into a machine says nothing about what was to be done there.
    let inside = words.iter().position(|word| word == ENTERED).map_or(0, |at| at + 1);
    words[inside..].join(" ")
}

//! Running programs so that a failure says which one, with what, and what it answered.

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use crate::error::{At, LabError, Result};

/// The last argument before the program in a machine's command.
pub(crate) const ENTERED: &str = "--pdeathsig=KILL";

/// Runs `command` to its end and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    output_with_stdin(command, Stdio::null())
}

/// Like [`output`], with `input` on its standard input.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut file = tempfile::tempfile().at("create", std::env::temp_dir())?;
    file.write_all(input.as_bytes()).and_then(|()| file.rewind()).at("write", std::env::temp_dir())?;
    output_with_stdin(command, file)
}

/// Like [`output`], with its standard input from there.
pub fn output_with_stdin(command: &mut Command, stdin: impl Into<Stdio>) -> Result<String> {
    let out = command.stdin(stdin).output();
    let out = out.map_err(|source| LabError::Spawn { command: describe(command), source })?;
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

//! `transship-runtime`: see the library's `wrapper`.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship_runtime::wrapper::main(std::env::args_os().skip(1).collect())
}

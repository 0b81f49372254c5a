//! `transship-watchdog`: see the library's `watchdog`.

use std::process::ExitCode;

fn main() -> ExitCode {
    transship_runtime::watchdog::main(std::env::args_os().skip(1))
}

//! PID 1 of a sandbox: does nothing, reaps orphans, ends on SIGTERM or SIGINT.

use anyhow::Result;
use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

fn main() -> Result<()> {
    for signal in Signals::new([SIGCHLD, SIGINT, SIGTERM])?.forever() {
        if signal != SIGCHLD {
            break;
        }
        // One SIGCHLD may stand for several ends. An error means that there is no child left.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
    Ok(())
}

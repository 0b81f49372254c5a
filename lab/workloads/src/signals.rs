//! Dying on request: the kernel ignores a signal's default action for PID 1, so each program asks for its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

/// Makes SIGTERM and SIGINT end the process at once, from within the signal's handler, with 128 + the signal's number.
pub fn die_on_request() -> io::Result<()> {
    for signal in [SIGTERM, SIGINT] {
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, always)?;
    }
    Ok(())
}

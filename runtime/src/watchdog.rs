//! The watchdog: sees to it that no container stays frozen because an agent died.
//!
//! The agent starts it before the freeze, puts it into a host cgroup outside of its own, and waits for the
//! line `ready`. From then on it waits for the first of: the end of the freeze budget, a record, the agent's
//! death, the mark that the migration is done (`migrations/ID/done`), which ends it. What it does then is
//! decided by [`transship_decision::Watchdog`].

mod guard;
mod options;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use guard::Guarded;
use options::Options;

/// The whole program, given its arguments without the first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(e) => {
            note(&e);
            note(&options::USAGE);
            return ExitCode::from(2);
        }
    };
    match watch(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note(&e);
            ExitCode::FAILURE
        }
    }
}

fn watch(options: &Options) -> Result<(), guard::ArmError> {
    let staged = guard::stage(options)?;
    let mut guarded = Guarded::arm(options, staged)?;
    writeln!(std::io::stdout(), "ready").map_err(guard::ArmError::NobodyWaits)?;
    guarded.watch();
    Ok(())
}

/// Tells whoever reads. Nobody may: the agent that did may be what has died.
fn note(what: &dyn Display) {
    drop(writeln!(std::io::stderr(), "transship-watchdog: {what}"));
}

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use transship_decision::{ContainerId, Failure, wire};

use super::bundle::Bundle;
use super::command_line::CommandLine;
use super::config::Config;

/// Becomes the runtime's `restore`. The connection stays open in it, and so ends for the agent when the
/// runtime does.
pub(super) fn restore(
    config: &Config,
    line: &CommandLine,
    bundle: &Bundle,
    id: &ContainerId,
    how: &wire::Restore,
    connection: UnixStream,
) -> Result<Infallible, Failure> {
    transship_freezer::join(&how.cgroups, std::process::id())
        .map_err(|e| Failure::new("CgroupUnusable", e.to_string()))?;
    fcntl_setfd(&connection, FdFlags::empty())
        .map_err(|e| Failure::new("SocketUnusable", format!("the agent's socket: {e}")))?;
    if !bundle.is_there() {
        return Err(super::agent::bundle_gone(bundle));
    }
    let mark = config.run.restored_path(id);
    make(&mark)?;
    let error = Command::new(&config.runtime)
        .args(arguments(line, bundle, id, how))
        .envs(how.env.iter().map(|(name, value)| (name, value)))
        .exec();
    // Not restored after all. A mark that stays does no harm: the id is never used again.
    drop(fs::remove_file(&mark));
    Err(super::cannot_exec(config, error))
}

fn make(mark: &Path) -> Result<(), Failure> {
    let unusable = |e: std::io::Error| Failure::new("MarkUnusable", format!("{}: {e}", mark.display()));
    if let Some(folder) = mark.parent() {
        fs::create_dir_all(folder).map_err(unusable)?;
    }
    fs::write(mark, b"").map_err(unusable)
}

fn arguments(line: &CommandLine, bundle: &Bundle, id: &ContainerId, how: &wire::Restore) -> Vec<OsString> {
    let mut arguments = line.globals.clone();
    arguments.extend(["restore", "--detach", "--bundle"].map(OsString::from));
    arguments.push(bundle.path.clone().into());
    for (flag, value) in [("--pid-file", &line.pid_file), ("--console-socket", &line.console_socket)] {
        if let Some(value) = value {
            arguments.extend([flag.into(), value.clone()]);
        }
    }
    arguments.extend(line.no_pivot.clone());
    arguments.extend(["--image-path".into(), how.images.clone().into()]);
    arguments.extend(["--work-path".into(), how.work.clone().into()]);
    arguments.extend(how.flags.iter().map(OsString::from));
    arguments.push(id.as_str().into());
    arguments
}

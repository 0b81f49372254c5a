//! The OCI wrapper.
//!
//! ```text
//!  any command but these --------------------------------> exec the runtime
//!  start     restored by us? ---- yes ----> nothing to do
//!                 \---- no ------------------------------> exec the runtime
//!  create    fenced? ------------ yes ----> refuse
//!  run          \---- no --> expected? -- no ------------> exec the runtime
//!  restore                       \------ yes: create waits for the agent's word, the others are refused
//! ```
//!
//! Which Pod a container belongs to is read from what containerd or CRI-O put into its bundle. A container
//! that belongs to none passes. Where a marker stands, or can't be read, whatever goes wrong ends in a
//! refusal: such a container never starts empty.

mod agent;
mod bundle;
mod command_line;
mod config;
mod report;
mod restore;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use transship_decision::{Admission, ContainerId, Failure, Marker, MigrationId, PodUid, Verdict, wire};

use bundle::{Bundle, Role};
use command_line::{CommandLine, Verb};
use config::Config;

/// The whole program, given its arguments without the first.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let line = CommandLine::parse(arguments);
    match run(&line) {
        Ok(code) => code,
        Err(failure) => {
            report::report(&line, &failure);
            ExitCode::FAILURE
        }
    }
}

/// Comes back only where the runtime has nothing to do, or with a failure.
fn run(line: &CommandLine) -> Result<ExitCode, Failure> {
    let config = Config::load()?;
    match line.verb {
        Verb::Start if was_restored(&config, line)? => return Ok(ExitCode::SUCCESS),
        Verb::Create | Verb::Run | Verb::Restore => begin(&config, line)?,
        Verb::Start | Verb::Other => {}
    }
    match pass_on(&config, line)? {}
}

fn pass_on(config: &Config, line: &CommandLine) -> Result<Infallible, Failure> {
    Err(cannot_exec(config, Command::new(&config.runtime).args(&line.all).exec()))
}

fn cannot_exec(config: &Config, error: io::Error) -> Failure {
    let message = format!("the OCI runtime {} can't be run: {error}", config.runtime.display());
    Failure::new("RuntimeMissing", message)
}

/// Whether `start` was asked of a container that came to life by a restore; the mark is taken away.
fn was_restored(config: &Config, line: &CommandLine) -> Result<bool, Failure> {
    // A name that can't be ours wasn't marked by us.
    let Some(id) = line.container_id() else { return Ok(false) };
    let mark = config.run.restored_path(&id);
    match std::fs::remove_file(&mark) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Failure::new("MarkUnreadable", format!("{}: {e}", mark.display()))),
    }
}

/// Returns where the command is to be passed on.
fn begin(config: &Config, line: &CommandLine) -> Result<(), Failure> {
    // A bundle that can't be read is for the runtime to complain about.
    let Some(bundle) = Bundle::open(&line.bundle) else { return Ok(()) };
    // A name that can't be the name of a marker has none.
    let Some(pod) = bundle.pod_uid.as_deref().and_then(|uid| uid.parse::<PodUid>().ok()) else {
        return Ok(());
    };
    match config.state.admission(&pod) {
        Ok(Admission::Open) => {}
        Ok(Admission::Fenced { migration, verdict }) => return Err(fenced(&pod, &migration, verdict)),
        Err(e) => return Err(Failure::new("FenceUnreadable", e.to_string())),
    }
    if bundle.role == Role::Sandbox {
        return Ok(());
    }
    match config.state.marked(Marker::Expected, &pod) {
        Ok(None) => Ok(()),
        Ok(Some(migration)) if line.verb == Verb::Create => expected(config, line, &bundle, &pod, &migration),
        Ok(Some(migration)) => Err(Failure::new(
            "Expected",
            format!(
                "Pod {pod} is expected by migration {migration}; only `create` can bring up its containers"
            ),
        )),
        Err(e) => Err(Failure::new("MarkerUnreadable", e.to_string())),
    }
}

fn fenced(pod: &PodUid, migration: &MigrationId, verdict: Option<Verdict>) -> Failure {
    let message = match verdict {
        Some(Verdict::Released) => format!(
            "Pod {pod} was migrated to another node by migration {migration} and runs there; delete it here"
        ),
        _ => format!(
            "Pod {pod} is being migrated by migration {migration}; nothing of it is started here until that \
             is decided (its agent decides when it is up again)"
        ),
    };
    Failure::new("Fenced", message)
}

fn expected(
    config: &Config,
    line: &CommandLine,
    bundle: &Bundle,
    pod: &PodUid,
    migration: &MigrationId,
) -> Result<(), Failure> {
    let id = container_id(line)?;
    let request = wire::Request {
        version: wire::VERSION,
        pod_uid: pod.clone(),
        container: bundle.container.clone().unwrap_or_default(),
        container_id: id.clone(),
        sandbox_id: bundle.sandbox_id.clone().unwrap_or_default(),
        bundle: bundle.path.clone(),
        root: line.root.clone(),
    };
    let (reply, connection) = agent::ask(config, bundle, migration, &request)?;
    match reply {
        wire::Reply::Create {} => Ok(()),
        wire::Reply::Refuse { reason } => Err(Failure::new("Refused", reason)),
        wire::Reply::Restore(how) => match restore::restore(config, line, bundle, &id, &how, connection)? {},
    }
}

fn container_id(line: &CommandLine) -> Result<ContainerId, Failure> {
    let why = "the container's id is missing or can't be the name of a file";
    line.container_id().ok_or_else(|| Failure::new("InvalidContainerId", why))
}

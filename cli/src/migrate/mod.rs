//! `transship migrate`: asks this node's agent and shows how it goes.

mod failure;
mod progress;
mod report;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use failure::Failure;
use jiff::SignedDuration;
use progress::Progress;
use report::Report;
use tonic::transport::Endpoint;
use transship_proto::Fault;
use transship_proto::v1::agent_client::AgentClient;
use transship_proto::v1::migrate_event::Event;
use transship_proto::v1::{self, MigrateRequest, Outcome};

use transship_terminal::Exit;

/// How long a local agent may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What `transship migrate` is told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 done; 1 failed, and the container runs on where it was; 2 called wrongly; 3 refused before anything was \
touched; 4 not done within --timeout.")]
pub struct Arguments {
    /// The container: its ID, an unambiguous beginning of it, its name or its Pod's. All that runs in its Pod goes along.
    container: String,
    /// The agent of the node that takes it in.
    #[arg(long = "to", value_name = "HOST:PORT", value_parser = host_and_port)]
    target: String,
    /// How the container's state is captured.
    #[arg(long, value_enum, default_value_t)]
    capture: Capture,
    /// How long the container may stand still; when this is over and nothing is decided, it runs on where it was.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = freeze_budget)]
    freeze_budget: u32,
    /// How long to wait in all; then the agent is asked to cancel.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive)]
    timeout: Duration,
    /// Print the outcome as JSON, and nothing else.
    #[arg(long)]
    json: bool,
    /// Where this node's agent listens.
    #[arg(long, value_name = "SOCKET", default_value = "/run/transship/agent.sock")]
    socket: PathBuf,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Capture {
    /// The best that works here.
    #[default]
    Auto,
    /// CRIU by the OCI runtime, straight into memory.
    Direct,
    /// The container runtime's own checkpoint archive.
    Cri,
}

impl From<Capture> for v1::Capture {
    fn from(capture: Capture) -> Self {
        match capture {
            Capture::Auto => Self::Auto,
            Capture::Direct => Self::Direct,
            Capture::Cri => Self::Cri,
        }
    }
}

/// Migrates, and says how it went: progress on standard error, the result on standard output.
pub async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut progress = if arguments.json { Progress::silent() } else { Progress::on_stderr() };
    let interrupt = async {
        // Without a handler, Ctrl-C ends this process the ordinary way, which drops the call just as well.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let report = migrate(&arguments, &mut progress, interrupt).await;
    progress.finish(&report);
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if report.ok {
        println!("{report}");
    } else {
        eprintln!("{report}");
    }
    Ok(report.exit())
}

/// One migration from the call to its end, of whatever kind. Dropping the call is how an agent is asked to cancel.
async fn migrate(
    arguments: &Arguments,
    progress: &mut Progress,
    interrupt: impl Future<Output = ()>,
) -> Report {
    let mut report = Report::new(&arguments.container);
    let ended = tokio::select! {
        ended = follow(arguments, progress, &mut report) => ended,
        () = interrupt => Err(Failure::Interrupted),
        () = tokio::time::sleep(arguments.timeout) => Err(Failure::TimedOut(arguments.timeout)),
    };
    match ended {
        Ok(outcome) => report.outcome(outcome),
        Err(failure) => report.failure(failure),
    }
    report
}

/// Reads the agent's events up to the outcome.
async fn follow(
    arguments: &Arguments,
    progress: &mut Progress,
    report: &mut Report,
) -> Result<Outcome, Failure> {
    let no_agent = |source| Failure::NoAgent { socket: arguments.socket.clone(), source };
    let channel = Endpoint::from_shared(format!("unix://{}", arguments.socket.display()))
        .map_err(no_agent)?
        .connect_timeout(CONNECT_TIMEOUT)
        .connect()
        .await
        .map_err(no_agent)?;
    let request = MigrateRequest {
        container: arguments.container.clone(),
        target: arguments.target.clone(),
        capture: v1::Capture::from(arguments.capture).into(),
        freeze_budget_ms: arguments.freeze_budget,
    };
    let mut events = AgentClient::new(channel).migrate(request).await.map_err(Failure::from)?.into_inner();
    while let Some(event) = events.message().await.map_err(Failure::from)? {
        match event.event {
            Some(Event::Started(started)) => {
                progress.started(&started);
                report.started(started);
            }
            Some(Event::Phase(begun)) => {
                progress.phase(begun);
                report.phase(begun);
            }
            Some(Event::Progress(bytes)) => progress.bytes(bytes),
            Some(Event::Outcome(outcome)) => return Ok(outcome),
            // Only a Pod's target waits for its kubelet; and a newer agent may tell more than this version knows.
            Some(Event::Prepared(_)) | None => {}
        }
    }
    Err(Failure::AgentLost("it ended the call without an outcome".into()))
}

impl From<tonic::Status> for Failure {
    /// What the agent itself says bears a reason of its own; all else is the connection's.
    fn from(status: tonic::Status) -> Self {
        use tonic_types::StatusExt;
        let ours = status.get_details_error_info().is_some_and(|info| info.domain == transship_proto::DOMAIN);
        if ours { Self::Told(Fault::from(status)) } else { Self::AgentLost(status.message().to_owned()) }
    }
}

fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("it has no port; an agent's usual one is 7443")?;
    if host.is_empty() {
        return Err("it has no host".into());
    }
    port.parse::<u16>().map_err(|error| format!("its port: {error}"))?;
    Ok(text.to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    let span: SignedDuration =
        text.parse().map_err(|error| format!("{error}; write it like 10s or 1m30s"))?;
    match Duration::try_from(span) {
        Ok(span) if !span.is_zero() => Ok(span),
        _ => Err("it must be more than nothing".into()),
    }
}

fn freeze_budget(text: &str) -> Result<u32, String> {
    let budget = positive(text)?.as_millis();
    match u32::try_from(budget) {
        Ok(0) => Err("less than a millisecond can't be kept".into()),
        Ok(budget) => Ok(budget),
        Err(_) => Err("nobody wants a container to stand still for weeks".into()),
    }
}

#[cfg(test)]
mod tests;

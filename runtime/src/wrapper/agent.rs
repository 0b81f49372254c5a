//! Asking the agent, and waiting for its word.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use transship_decision::wire::{self, Reply, Request, WireError};
use transship_decision::{Failure, Marker, MigrationId};

use super::bundle::Bundle;
use super::config::Config;

/// How often an agent that is away is looked for: a socket's file tells of its birth, not of its listening.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often a wrapper that waits for an answer looks whether its bundle is still there.
const CHECK_BUNDLE: Duration = Duration::from_secs(1);

/// The agent's answer, and the connection that it came by. An agent that goes away is waited for and asked
/// again; how long a living one takes to answer is its own matter (the container runtime has a limit of its
/// own, which shows in a removed bundle).
pub(super) fn ask(
    config: &Config,
    bundle: &Bundle,
    migration: &MigrationId,
    request: &Request,
) -> Result<(Reply, UnixStream), Failure> {
    let mut away_since = Instant::now();
    loop {
        still_wanted(config, bundle, migration, request)?;
        match connect(config, request) {
            Ok(connection) => match answer(&connection, bundle) {
                Ok(reply) => return Ok((reply, connection)),
                // It had been there.
                Err(Ended::Agent) => away_since = Instant::now(),
                Err(Ended::Refused(failure)) => return Err(failure),
            },
            Err(error) if away_since.elapsed() >= config.agent_wait => {
                return Err(agent_away(config, migration, &error));
            }
            Err(_) => {}
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Why there is no answer.
enum Ended {
    /// The agent closed the connection, or died.
    Agent,
    Refused(Failure),
}

fn connect(config: &Config, request: &Request) -> Result<UnixStream, WireError> {
    let mut connection = UnixStream::connect(config.run.runtime_socket())?;
    connection.set_read_timeout(Some(CHECK_BUNDLE))?;
    connection.write_all(&wire::encode(request)?)?;
    Ok(connection)
}

fn answer(connection: &UnixStream, bundle: &Bundle) -> Result<Reply, Ended> {
    let misunderstood = |e: WireError| Ended::Refused(Failure::new("AgentMisunderstood", e.to_string()));
    let mut line = wire::Line::default();
    loop {
        match line.read(connection) {
            Ok(line) => return wire::decode(&line).map_err(misunderstood),
            Err(WireError::Io(e)) if is_timeout(&e) => {
                if !bundle.is_there() {
                    return Err(Ended::Refused(bundle_gone(bundle)));
                }
            }
            Err(WireError::Io(_)) => return Err(Ended::Agent),
            Err(e) => return Err(misunderstood(e)),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A migration that ended while the agent was away has either let all containers run, and this one is asked
/// for out of turn, or discarded them. The runtime asks again, and is then told by the markers.
fn still_wanted(
    config: &Config,
    bundle: &Bundle,
    migration: &MigrationId,
    request: &Request,
) -> Result<(), Failure> {
    if !bundle.is_there() {
        return Err(bundle_gone(bundle));
    }
    match config.state.marked(Marker::Expected, &request.pod_uid) {
        Ok(Some(now)) if now == *migration => Ok(()),
        Ok(_) => Err(Failure::new(
            "MigrationEnded",
            format!("migration {migration} ended while its agent was waited for; create the container again"),
        )),
        Err(e) => Err(Failure::new("MarkerUnreadable", e.to_string())),
    }
}

pub(super) fn bundle_gone(bundle: &Bundle) -> Failure {
    let message = format!("bundle {} was removed while it waited for a migration", bundle.path.display());
    Failure::new("BundleGone", message)
}

fn agent_away(config: &Config, migration: &MigrationId, error: &WireError) -> Failure {
    Failure::new(
        "AgentAway",
        format!(
            "this container is expected by migration {migration}, and the agent could not be reached at {} for \
             {} s ({error}); it never starts empty: start `transship agent`",
            config.run.runtime_socket().display(),
            config.agent_wait.as_secs(),
        ),
    )
}

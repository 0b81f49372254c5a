//! Why there is no outcome.

use std::path::PathBuf;
use std::time::Duration;

use transship_proto::{Fault, Reason};

/// A call to the agent that ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nobody to ask.
    #[error(
        "no agent answers at {}: {}; start `transship agent` on this node, or name its socket with --socket",
        socket.display(), root_cause(source)
    )]
    NoAgent {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the connection's attempt ended with.
        source: tonic::transport::Error,
    },
    /// The agent's own word.
    #[error("{}", .0.message)]
    Told(Fault),
    /// The agent's answers stopped.
    #[error(
        "the agent went away: {0}. Nothing stays frozen longer than its budget, and an agent that comes back carries \
         out what was decided; its log tells what that is"
    )]
    AgentLost(String),
    /// Ctrl-C.
    #[error(
        "interrupted: the agent has been asked to cancel, and does so if nothing was decided yet; its log tells"
    )]
    Interrupted,
    /// `--timeout`.
    #[error(
        "not done after {0:?}: the agent has been asked to cancel, and does so if nothing was decided yet; its log tells"
    )]
    TimedOut(Duration),
}

impl Failure {
    /// A stable name, in the style of [`Reason`], of which it is one where the agent could have said it.
    pub fn reason(&self) -> &str {
        match self {
            Self::NoAgent { .. } => "AgentUnreachable",
            Self::Told(fault) => fault.reason.as_ref(),
            Self::AgentLost(_) => "AgentLost",
            Self::Interrupted => Reason::Cancelled.as_ref(),
            Self::TimedOut(_) => "TimedOut",
        }
    }
}

/// Transport errors say "transport error" and keep what matters for the last of their sources.
fn root_cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

//! The agent itself.

use std::path::Path;
use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

use super::{Finding, commands};

const PATIENCE: Duration = Duration::from_secs(5);

/// The program that thaws where the agent can't.
pub fn watchdog(program: &Path) -> Finding {
    const NAME: &str = "watchdog";
    if commands::is_executable(program) {
        return Finding::ok(NAME, program.display().to_string());
    }
    let mend = "install transship-watchdog beside transship, or name it with --watchdog";
    Finding::fail(NAME, format!("{} is no program", program.display()), mend)
}

/// An agent listens, and answers.
pub async fn answers(socket: &Path) -> Finding {
    const NAME: &str = "agent";
    let mend = "start `transship agent`, and look into its log";
    let detail = socket.display();
    match tokio::time::timeout(PATIENCE, probe(socket)).await {
        Ok(Ok(())) => Finding::ok(NAME, format!("answers at {detail}")),
        Ok(Err(status)) => {
            Finding::fail(NAME, format!("doesn't answer at {detail}: {}", status.message()), mend)
        }
        Err(_) => {
            Finding::fail(NAME, format!("has not answered at {detail} for {} s", PATIENCE.as_secs()), mend)
        }
    }
}

/// Calls gRPC's health check. An agent that has none says so, which is an answer too.
async fn probe(socket: &Path) -> Result<(), Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let channel =
        Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(unreachable)?.connect_lazy();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(unreachable)?;
    let health = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    match client.unary(Request::new(()), health, codec).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::Unimplemented => Ok(()),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::transport::Server;

    use super::super::Status as Verdict;
    use super::*;

    #[tokio::test]
    async fn an_agent_without_a_health_check_answers_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        assert_eq!(answers(&socket).await.status, Verdict::Fail);

        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let router = Server::builder().add_routes(tonic::service::Routes::default());
        let server = tokio::spawn(router.serve_with_incoming(listener));
        assert_eq!(answers(&socket).await.status, Verdict::Ok);

        // The file stays when its agent has gone.
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert_eq!(answers(&socket).await.status, Verdict::Fail);
    }
}

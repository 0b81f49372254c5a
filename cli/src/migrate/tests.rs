//! The command against an agent that plays its part message by message.

use std::future::pending;
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::Parser;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use transship_proto::Reason;
use transship_proto::v1::agent_server::{Agent, AgentServer};
use transship_proto::v1::migrate_event::{PhaseBegun, Started};
use transship_proto::v1::{Bytes, MigrateEvent, Phase, Timing};

use super::*;

type Answers = mpsc::Receiver<Result<MigrateEvent, Status>>;

/// An agent that answers one call with what its script sends.
struct Scripted {
    answers: Mutex<Option<Result<Answers, Status>>>,
    asked: Arc<Mutex<Option<MigrateRequest>>>,
}

#[tonic::async_trait]
impl Agent for Scripted {
    type MigrateStream = ReceiverStream<Result<MigrateEvent, Status>>;

    async fn migrate(
        &self,
        request: Request<MigrateRequest>,
    ) -> Result<Response<Self::MigrateStream>, Status> {
        *self.asked.lock().unwrap() = Some(request.into_inner());
        let answers = self.answers.lock().unwrap().take().unwrap();
        answers.map(|answers| Response::new(ReceiverStream::new(answers)))
    }
}

struct Lab {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Option<MigrateRequest>>>,
}

impl Lab {
    /// Brings up an agent that answers like that.
    fn new(answers: Result<Answers, Status>) -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap(), asked: Arc::default() };
        let agent = Scripted { answers: Mutex::new(Some(answers)), asked: lab.asked.clone() };
        let listener =
            UnixListenerStream::new(UnixListener::bind(lab.dir.path().join("agent.sock")).unwrap());
        tokio::spawn(Server::builder().add_service(AgentServer::new(agent)).serve_with_incoming(listener));
        lab
    }

    /// An agent whose whole answer is known from the start.
    fn answering(events: Vec<Result<MigrateEvent, Status>>) -> Self {
        let (sender, answers) = mpsc::channel(events.len().max(1));
        for event in events {
            sender.try_send(event).unwrap();
        }
        Self::new(Ok(answers))
    }

    fn arguments(&self, more: &[&str]) -> Arguments {
        arguments(&self.dir.path().join("agent.sock"), more)
    }

    async fn migrate(&self, more: &[&str]) -> Report {
        migrate(&self.arguments(more), &mut Progress::silent(), pending()).await
    }
}

fn arguments(socket: &Path, more: &[&str]) -> Arguments {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let line = ["migrate", "web", "--to", "10.0.0.2:7443", "--socket", socket.to_str().unwrap()];
    Line::try_parse_from(line.iter().chain(more)).unwrap().arguments
}

fn event(event: Event) -> Result<MigrateEvent, Status> {
    Ok(MigrateEvent { event: Some(event) })
}

fn started() -> Result<MigrateEvent, Status> {
    event(Event::Started(Started {
        migration: "m1".into(),
        container: "web".into(),
        source_node: "a".into(),
        target_node: "b".into(),
        warnings: vec!["one connection will be reset".into()],
    }))
}

fn begun(phase: Phase, at_us: u64) -> Result<MigrateEvent, Status> {
    event(Event::Phase(PhaseBegun { phase: phase.into(), at_us }))
}

fn json(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).unwrap()
}

#[tokio::test]
async fn a_migration_that_went_well_is_one_line_and_all_of_it_in_json() {
    let timing = |phase: Phase, begin_us, end_us| Timing { phase: phase.into(), begin_us, end_us };
    let lab = Lab::answering(vec![
        started(),
        begun(Phase::Freeze, 2_500_000),
        event(Event::Outcome(Outcome {
            migrated: true,
            freeze_us: 312_400,
            bytes: Some(Bytes { total: 1181 << 20, sent: 214 << 20, zero: 7, deduplicated: 5 }),
            timings: vec![timing(Phase::Preflight, 0, 10_000), timing(Phase::Retire, 2_900_000, 2_912_000)],
            target_container: "c0ffee".into(),
            target_ip: "10.1.0.9".into(),
            ..Outcome::default()
        })),
    ]);
    let report = lab.migrate(&[]).await;
    assert_eq!(report.exit(), Exit::Done);
    assert_eq!(
        report.to_string(),
        "web migrated a → b · frozen 312 ms · 1.2 GiB state, 214 MiB sent · 2.9 s"
    );
    assert_eq!(
        json(&report),
        serde_json::json!({
            "ok": true, "migration": "m1", "container": "web", "source": "a", "target": "b",
            "freeze_ms": 312.4,
            "phases_ms": {"preflight": 10.0, "retire": 12.0},
            "phases": [
                {"name": "preflight", "begin_ms": 0.0, "end_ms": 10.0},
                {"name": "retire", "begin_ms": 2900.0, "end_ms": 2912.0},
            ],
            "bytes": {"total": 1181u64 << 20, "sent": 214u64 << 20, "zero": 7, "deduplicated": 5},
            "reason": "", "message": "", "refused": false,
            "target_container": "c0ffee", "target_ip": "10.1.0.9", "criu_log": "",
            "warnings": ["one connection will be reset"],
        })
    );
}

#[tokio::test]
async fn the_agent_is_asked_for_what_the_command_line_says() {
    let lab = Lab::answering(vec![started()]);
    lab.migrate(&["--capture", "cri", "--freeze-budget", "1s500ms"]).await;
    let asked = lab.asked.lock().unwrap().clone().unwrap();
    let wanted = MigrateRequest {
        container: "web".into(),
        target: "10.0.0.2:7443".into(),
        capture: v1::Capture::Cri.into(),
        freeze_budget_ms: 1500,
    };
    assert_eq!(asked, wanted);
}

#[tokio::test]
async fn a_refusal_says_why_and_that_nothing_was_touched() {
    let fault = Fault::new(Reason::TerminalAttached, "web has a terminal; start it without one");
    let as_status = Lab::new(Err(fault.clone().into()));
    let as_outcome = Lab::answering(vec![event(Event::Outcome(Outcome {
        refused: true,
        reason: fault.reason.to_string(),
        message: fault.message,
        ..Outcome::default()
    }))]);
    for lab in [as_status, as_outcome] {
        let report = lab.migrate(&[]).await;
        assert_eq!(report.exit(), Exit::Refused);
        assert_eq!(
            report.to_string(),
            "web can't be migrated (TerminalAttached)\n  web has a terminal; start it without one\n  Nothing was touched."
        );
    }
}

#[tokio::test]
async fn a_failure_names_criu_s_log() {
    let lab = Lab::answering(vec![
        started(),
        begun(Phase::Freeze, 1),
        event(Event::Outcome(Outcome {
            reason: "RestoreFailed".into(),
            message: "b lacks /data; make it there".into(),
            freeze_us: 80_000,
            criu_log: "b:/var/lib/transship/migrations/m1/restore.log".into(),
            ..Outcome::default()
        })),
    ]);
    let report = lab.migrate(&[]).await;
    assert_eq!(report.exit(), Exit::Failed);
    assert_eq!(
        report.to_string(),
        "web was not migrated (RestoreFailed)\n  b lacks /data; make it there\n  It stood still for 80 ms.\n  \
         CRIU's log: b:/var/lib/transship/migrations/m1/restore.log"
    );
}

#[tokio::test]
async fn a_fault_after_the_freeze_is_no_refusal() {
    let fault = Fault::new(Reason::HostError, "a mount failed");
    let lab = Lab::answering(vec![started(), begun(Phase::Freeze, 1), Err(fault.into())]);
    let report = lab.migrate(&[]).await;
    assert_eq!((report.exit(), json(&report)["reason"].as_str()), (Exit::Failed, Some("HostError")));
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_named_by_its_socket() {
    let report =
        migrate(&arguments(Path::new("/nonexistent/a.sock"), &[]), &mut Progress::silent(), pending()).await;
    assert_eq!((report.exit(), json(&report)["reason"].as_str()), (Exit::Failed, Some("AgentUnreachable")));
    let text = report.to_string();
    assert!(text.contains("/nonexistent/a.sock") && text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn an_agent_that_dies_half_way_is_no_outcome() {
    let lab = Lab::answering(vec![started(), begun(Phase::Capture, 1)]);
    let report = lab.migrate(&[]).await;
    assert_eq!((report.exit(), json(&report)["reason"].as_str()), (Exit::Failed, Some("AgentLost")));
    assert!(report.to_string().starts_with("web may not have been migrated"), "{report}");
}

#[tokio::test]
async fn waiting_has_an_end() {
    let (_silent, answers) = mpsc::channel(1);
    let report = Lab::new(Ok(answers)).migrate(&["--timeout", "50ms"]).await;
    assert_eq!((report.exit(), json(&report)["reason"].as_str()), (Exit::TimedOut, Some("TimedOut")));
}

#[tokio::test]
async fn an_interrupt_drops_the_call() {
    let (sender, answers) = mpsc::channel(1);
    let lab = Lab::new(Ok(answers));
    let asked = lab.asked.clone();
    let interrupt = async move {
        while asked.lock().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    let report = migrate(&lab.arguments(&[]), &mut Progress::silent(), interrupt).await;
    assert_eq!((report.exit(), json(&report)["reason"].as_str()), (Exit::Failed, Some("Cancelled")));
    sender.closed().await;
}

#[test]
fn times_and_addresses_are_checked_before_anybody_is_asked() {
    assert_eq!(freeze_budget("10s"), Ok(10_000));
    assert_eq!(freeze_budget("250ms"), Ok(250));
    for bad in ["", "10", "-1s", "0s", "1us", "90 days"] {
        assert!(freeze_budget(bad).is_err(), "{bad:?}");
    }
    assert!(host_and_port("[fd00::1]:7443").is_ok());
    for bad in ["b", ":7443", "b:", "b:70000"] {
        assert!(host_and_port(bad).is_err(), "{bad:?}");
    }
}

//! The wrapper as a process, with a script for the runtime and a thread for the agent.
#![expect(clippy::unwrap_used, reason = "a test that can not go on ends")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use transship_decision::wire::{self, Reply, Request, Restore};
use transship_decision::{
    By, Failure, Marker, MigrationId, PodUid, Record, Root, RunDir, SignedRecord, StateDir, UnixMillis,
};

/// A node with the wrapper installed, a runtime that writes down how it was called, and a bundle.
struct Node {
    folder: tempfile::TempDir,
    state: StateDir,
    run: RunDir,
    migration: MigrationId,
    pod: PodUid,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("bundle")).unwrap();
        fs::create_dir(at("run")).unwrap();
        // Linked and not copied: what another thread's fork holds open for writing can't be run.
        fs::hard_link(env!("CARGO_BIN_EXE_transship-runtime"), at("transship-runtime")).unwrap();
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake-runc.sh"), at("runc")).unwrap();
        let config = format!(
            r#"{{"runtime":{:?},"state":{:?},"run":{:?},"agent_wait_seconds":1}}"#,
            at("runc"),
            at("state"),
            at("run")
        );
        fs::write(at("transship-runtime.json"), config).unwrap();
        let node = Self {
            state: StateDir::new(at("state")),
            run: RunDir::new(at("run")),
            migration: "m-1".parse().unwrap(),
            pod: "pod-1".parse().unwrap(),
            folder,
        };
        node.bundle("container");
        node.state.begin(&node.migration, b"{}").unwrap();
        node
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bundle(&self, kind: &str) {
        let spec = format!(
            r#"{{"annotations":{{"io.kubernetes.cri.container-type":"{kind}","io.kubernetes.cri.sandbox-uid":"{}",
               "io.kubernetes.cri.container-name":"main","io.kubernetes.cri.sandbox-id":"s-1"}}}}"#,
            self.pod
        );
        fs::write(self.at("bundle/config.json"), spec).unwrap();
    }

    fn mark(&self, marker: Marker) {
        self.state.raise(marker, &self.pod, &self.migration).unwrap();
    }

    fn decide(&self, record: Record) {
        self.state.decide(SignedRecord::unsigned(record)).unwrap();
    }

    fn kept(&self) -> Record {
        let why = Failure::new("Cancelled", "by a person");
        Record::kept(self.migration.clone(), self.pod.clone(), why, By::Agent, UnixMillis(0))
    }

    fn released(&self) -> Record {
        let (migration, pod) = (self.migration.clone(), self.pod.clone());
        Record::released(migration, pod, Root([0; 32]), By::Agent, UnixMillis(0))
    }

    /// The command line that containerd's shim writes.
    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(self.at("transship-runtime"));
        command.args(["--root", "/run/rc", "--log"]).arg(self.at("log.json")).args(["--log-format", "json"]);
        command.args(verb).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn create(&self) -> Command {
        let mut command = self.command(&["create", "--bundle"]);
        command.arg(self.at("bundle")).args(["--pid-file", "/p", "--no-pivot", "c-1"]);
        command
    }

    /// How the runtime was called, without its own name; `None` if it wasn't.
    fn called(&self) -> Option<String> {
        let called = fs::read_to_string(self.at("called")).ok()?;
        let (program, arguments) = called.split_once('\n').unwrap();
        assert_eq!(Path::new(program), self.at("runc"));
        Some(arguments.trim_end().replace('\n', " ").replace(self.folder.path().to_str().unwrap(), "DIR"))
    }

    fn passes(&self, command: &mut Command) {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(42), "{output:?}");
        let expected: Vec<String> =
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let expected = expected.join(" ").replace(self.folder.path().to_str().unwrap(), "DIR");
        assert_eq!(self.called().unwrap(), expected);
        fs::remove_file(self.at("called")).unwrap();
    }

    /// Refused for `reason`, and said so on stderr and to containerd; the runtime wasn't called.
    fn refuses(&self, output: &Output, reason: &str) {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(self.called(), None);
        let log = fs::read_to_string(self.at("log.json")).unwrap();
        let entry: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!(entry["level"], "error");
        let message = entry["msg"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(message));
        entry["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.run.runtime_socket()).unwrap()
    }
}

fn accept(listener: &UnixListener) -> (UnixStream, Request) {
    let (stream, _) = listener.accept().unwrap();
    let line = wire::Line::default().read(&stream).unwrap();
    (stream, wire::decode(&line).unwrap())
}

fn reply(mut stream: &UnixStream, reply: &Reply) {
    stream.write_all(&wire::encode(reply).unwrap()).unwrap();
}

fn start(mut command: Command) -> Child {
    command.spawn().unwrap()
}

#[test]
fn what_is_none_of_its_business_goes_straight_on() {
    let node = Node::new();
    node.passes(&mut node.create());
    for verb in [&["start", "c-1"][..], &["delete", "--force", "c-1"], &["--version"], &["kill", "c-1", "9"]]
    {
        node.passes(&mut node.command(verb));
    }
    node.mark(Marker::Expected);
    node.bundle("sandbox");
    node.passes(&mut node.create());
    fs::write(node.at("bundle/config.json"), r#"{"annotations":{"io.kubernetes.pod.uid":"pod-1"}}"#).unwrap();
    node.passes(&mut node.create());
    fs::remove_file(node.at("bundle/config.json")).unwrap();
    node.passes(&mut node.create());
}

#[test]
fn a_fence_refuses_until_its_migration_is_kept() {
    let node = Node::new();
    node.mark(Marker::Fence);
    for kind in ["container", "sandbox"] {
        node.bundle(kind);
        node.refuses(&node.create().output().unwrap(), "Fenced");
    }
    for verb in ["run", "restore"] {
        let mut command = node.command(&[verb, "--bundle"]);
        command.arg(node.at("bundle")).arg("c-1");
        node.refuses(&command.output().unwrap(), "Fenced");
    }
    node.passes(&mut node.command(&["kill", "c-1", "9"]));
    node.decide(node.kept());
    node.passes(&mut node.create());
}

#[test]
fn a_fence_refuses_when_released_or_unreadable() {
    let node = Node::new();
    node.mark(Marker::Fence);
    node.decide(node.released());
    node.refuses(&node.create().output().unwrap(), "runs there");
    fs::write(node.state.record_path(&node.migration), "torn").unwrap();
    node.refuses(&node.create().output().unwrap(), "FenceUnreadable");
}

#[test]
fn an_expected_container_is_restored_when_the_agent_says_so() {
    let node = Node::new();
    node.mark(Marker::Expected);
    let listener = node.listen();
    let wrapper = start(node.create());
    let (mut agent, request) = accept(&listener);
    let expected = Request {
        version: wire::VERSION,
        pod_uid: node.pod.clone(),
        container: "main".into(),
        container_id: "c-1".parse().unwrap(),
        sandbox_id: "s-1".into(),
        bundle: fs::canonicalize(node.at("bundle")).unwrap(),
        root: Some("/run/rc".into()),
    };
    assert_eq!(request, expected);
    fs::create_dir(node.at("cgroup")).unwrap();
    let how = Restore {
        images: "/images".into(),
        work: "/work".into(),
        flags: vec!["--tcp-established".into()],
        env: vec![("TRANSSHIP_TEST".into(), "yes".into())],
        cgroups: vec![node.at("cgroup")],
    };
    let pid = wrapper.id();
    reply(&agent, &Reply::Restore(how));
    // The end of the connection is the end of the runtime.
    agent.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(agent.read(&mut [0]).unwrap(), 0);
    let output = wrapper.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(42), "{output:?}");
    assert_eq!(
        node.called().unwrap(),
        "--root /run/rc --log DIR/log.json --log-format json restore --detach --bundle DIR/bundle --pid-file /p \
         --no-pivot --image-path /images --work-path /work --tcp-established c-1"
    );
    assert!(fs::read_to_string(node.at("env")).unwrap().contains("TRANSSHIP_TEST=yes\n"));
    assert!(fs::read_to_string(node.at("fds")).unwrap().contains("socket:"), "left open in the runtime");
    assert_eq!(fs::read_to_string(node.at("cgroup/cgroup.procs")).unwrap(), pid.to_string());
    fs::remove_file(node.at("called")).unwrap();

    let output = node.command(&["start", "c-1"]).output().unwrap();
    assert_eq!((output.status.code(), node.called()), (Some(0), None), "the first start has nothing to do");
    node.passes(&mut node.command(&["start", "c-1"]));
}

#[test]
fn an_expected_container_is_created_only_when_the_agent_says_so() {
    let node = Node::new();
    node.mark(Marker::Expected);
    let listener = node.listen();
    let wrapper = start(node.create());
    reply(&accept(&listener).0, &Reply::Create {});
    assert_eq!(wrapper.wait_with_output().unwrap().status.code(), Some(42));
    assert!(node.called().unwrap().contains(" create "));
    fs::remove_file(node.at("called")).unwrap();

    let wrapper = start(node.create());
    reply(&accept(&listener).0, &Reply::Refuse { reason: "it was kept".into() });
    node.refuses(&wrapper.wait_with_output().unwrap(), "it was kept");

    let wrapper = start(node.create());
    accept(&listener).0.write_all(b"{\"something\":{}}\n").unwrap();
    node.refuses(&wrapper.wait_with_output().unwrap(), "AgentMisunderstood");
}

#[test]
fn an_expected_container_without_an_agent_fails_closed() {
    let node = Node::new();
    node.mark(Marker::Expected);
    node.refuses(&node.create().output().unwrap(), "AgentAway");
    let listener = node.listen();
    drop(listener);
    node.refuses(&node.create().output().unwrap(), "AgentAway");
    let mut command = node.command(&["run", "--bundle"]);
    command.arg(node.at("bundle")).arg("c-1");
    node.refuses(&command.output().unwrap(), "Expected");
}

#[test]
fn an_agent_that_comes_late_or_comes_again_is_found() {
    let node = Node::new();
    node.mark(Marker::Expected);
    let wrapper = start(node.create());
    std::thread::sleep(Duration::from_millis(100));
    let listener = node.listen();
    drop(accept(&listener));
    drop(listener);
    fs::remove_file(node.run.runtime_socket()).unwrap();
    let listener = node.listen();
    reply(&accept(&listener).0, &Reply::Create {});
    assert_eq!(wrapper.wait_with_output().unwrap().status.code(), Some(42));
}

#[test]
fn a_migration_that_ends_meanwhile_is_no_leave_to_start_empty() {
    let node = Node::new();
    node.mark(Marker::Expected);
    let listener = node.listen();
    let wrapper = start(node.create());
    let (agent, _) = accept(&listener);
    node.state.lower(Marker::Expected, &node.pod, &node.migration).unwrap();
    drop(agent);
    node.refuses(&wrapper.wait_with_output().unwrap(), "MigrationEnded");
}

#[test]
fn a_wrapper_whose_bundle_is_gone_does_nothing_more() {
    let node = Node::new();
    node.mark(Marker::Expected);
    let listener = node.listen();
    let wrapper = start(node.create());
    let (agent, _) = accept(&listener);
    fs::rename(node.at("bundle"), node.at("gone")).unwrap();
    reply(&agent, &Reply::Restore(Restore { images: "/i".into(), work: "/w".into(), ..Restore::default() }));
    node.refuses(&wrapper.wait_with_output().unwrap(), "BundleGone");
    fs::rename(node.at("gone"), node.at("bundle")).unwrap();

    let wrapper = start(node.create());
    let (_agent, _) = accept(&listener);
    fs::rename(node.at("bundle"), node.at("gone")).unwrap();
    node.refuses(&wrapper.wait_with_output().unwrap(), "BundleGone");
}

#[test]
fn a_broken_configuration_or_a_missing_runtime_is_said() {
    let node = Node::new();
    fs::remove_file(node.at("runc")).unwrap();
    let output = node.create().output().unwrap();
    node.refuses(&output, "RuntimeMissing");
    fs::write(node.at("transship-runtime.json"), "{").unwrap();
    node.refuses(&node.create().output().unwrap(), "ConfigBroken");
}

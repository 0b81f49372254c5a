//! The watchdog as a process, with a sleeping shell for the agent. What is frozen is frozen for real where
//! this machine and this user can; else that is said.
#![expect(clippy::unwrap_used, reason = "a test that can not go on ends")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use transship_decision::{
    By, Marker, MigrationId, PodUid, Record, Root, SignedRecord, StateDir, UnixMillis, Verdict,
};
use transship_freezer::{HostCgroup, State};

const SOON: Duration = Duration::from_secs(10);

/// A migration that is about to freeze, and its agent.
struct Scene {
    folder: tempfile::TempDir,
    state: StateDir,
    migration: MigrationId,
    pod: PodUid,
    agent: Child,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path().join("state"));
        let (migration, pod) = ("m-1".parse().unwrap(), "pod-1".parse().unwrap());
        state.begin(&migration, b"{}").unwrap();
        state.raise(Marker::Fence, &pod, &migration).unwrap();
        Self { folder, state, migration, pod, agent: shell("exec sleep 1000").spawn().unwrap() }
    }

    fn verdict(&self) -> Option<(Verdict, By)> {
        let record = self.state.standing(&self.migration).unwrap()?;
        Some((record.record().verdict(), record.record().by()))
    }

    fn release(&self) {
        let (migration, pod) = (self.migration.clone(), self.pod.clone());
        let record = Record::released(migration, pod, Root([0; 32]), By::Agent, UnixMillis(0));
        self.state.decide(SignedRecord::unsigned(record)).unwrap();
    }

    /// An armed watchdog.
    fn watchdog(&self, options: &[&str]) -> Watchdog {
        let mut child = Command::new(env!("CARGO_BIN_EXE_transship-watchdog"))
            .arg("--state")
            .arg(self.state.path())
            .args(["--migration", "m-1", "--pod-uid", "pod-1", "--agent-pid"])
            .arg(self.agent.id().to_string())
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Watchdog(child)
    }

    fn end_agent(&mut self) {
        self.agent.kill().unwrap();
        self.agent.wait().unwrap();
    }

    /// A recovery that writes a line each time, and ends with `status`.
    fn recovery(&self, then: &str) -> (String, PathBuf) {
        let lines = self.folder.path().join("recovered");
        (format!("echo recovered >>{}; {then}", lines.display()), lines)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end_agent();
    }
}

struct Watchdog(Child);

impl Watchdog {
    fn ends(&mut self) {
        until("the watchdog ends", || self.0.try_wait().unwrap().is_some());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.kill());
        self.0.wait().unwrap();
    }
}

/// Processes in a cgroup of their own.
struct Group(HostCgroup, Child);

impl Group {
    /// One for each cgroup version that this machine has.
    fn all() -> Vec<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = rustix::process::geteuid().is_root();
        let there = mounts.into_iter().filter(|mount| root && mount.exists());
        let groups: Vec<Self> = there
            .map(|mount| {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("transship-watchdog-test-{}-{number}", std::process::id());
                let group = HostCgroup::create(mount, &name).unwrap();
                let child = shell("exec sleep 1000").spawn().unwrap();
                group.add(child.id()).unwrap();
                Self(group, child)
            })
            .collect();
        if groups.is_empty() {
            println!("skipped: needs root and a mounted cgroup hierarchy that can freeze");
        }
        groups
    }

    fn path(&self) -> &str {
        self.0.cgroup().path().to_str().unwrap()
    }

    fn freeze(&self) {
        self.0.cgroup().freeze(SOON).unwrap();
    }

    fn state(&self) -> State {
        self.0.cgroup().state().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.0.kill(SOON).unwrap();
        self.1.wait().unwrap();
        self.0.remove().unwrap();
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).process_group(0);
    command
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let ends = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < ends, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn at_the_end_of_the_budget_it_keeps_and_thaws_and_goes_on_watching() {
    for group in Group::all() {
        let scene = Scene::new();
        let mut dog = scene.watchdog(&["--budget-ms", "100", "--cgroup", group.path()]);
        group.freeze();
        until("thawed", || group.state() == State::Thawed);
        assert_eq!(scene.verdict(), Some((Verdict::Kept, By::Watchdog)));
        group.freeze();
        until("thawed again, for an agent that was late", || group.state() == State::Thawed);
        scene.state.mark_done(&scene.migration).unwrap();
        dog.ends();
    }
}

#[test]
fn what_is_released_it_never_thaws() {
    for group in Group::all() {
        let scene = Scene::new();
        let mut dog = scene.watchdog(&["--budget-ms", "60", "--cgroup", group.path()]);
        group.freeze();
        scene.release();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(group.state(), State::Frozen);
        assert_eq!(scene.verdict(), Some((Verdict::Released, By::Agent)));
        scene.state.mark_done(&scene.migration).unwrap();
        dog.ends();
        assert_eq!(group.state(), State::Frozen);
    }
}

#[test]
fn a_capture_has_its_grace_and_is_then_killed_before_the_thaw() {
    for (group, capture) in Group::all().into_iter().zip(Group::all()) {
        let scene = Scene::new();
        let _dog = scene.watchdog(&[
            "--budget-ms",
            "50",
            "--capture-grace-ms",
            "300",
            "--cgroup",
            group.path(),
            "--capture-cgroup",
            capture.path(),
        ]);
        let started = Instant::now();
        group.freeze();
        until("thawed", || group.state() == State::Thawed);
        assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
        assert!(capture.0.cgroup().processes().unwrap().is_empty());
    }
}

#[test]
fn a_capture_that_ends_in_order_is_thawed_at_once() {
    for (group, mut capture) in Group::all().into_iter().zip(Group::all()) {
        let scene = Scene::new();
        let _dog = scene.watchdog(&[
            "--budget-ms",
            "50",
            "--capture-grace-ms",
            "60000",
            "--cgroup",
            group.path(),
            "--capture-cgroup",
            capture.path(),
        ]);
        group.freeze();
        until("kept", || scene.verdict().is_some());
        assert_eq!(group.state(), State::Frozen);
        capture.1.kill().unwrap();
        until("thawed", || group.state() == State::Thawed);
    }
}

#[test]
fn a_container_that_is_gone_needs_no_thaw() {
    let scene = Scene::new();
    let mut dog = scene.watchdog(&["--budget-ms", "10", "--cgroup", "/nowhere/at/all"]);
    until("kept", || scene.verdict() == Some((Verdict::Kept, By::Watchdog)));
    scene.state.mark_done(&scene.migration).unwrap();
    dog.ends();
}

#[test]
fn a_dead_agent_is_followed_by_a_recovery_until_it_is_done() {
    let mut scene = Scene::new();
    let done = scene.state.done_path(&scene.migration);
    let (script, lines) = scene.recovery(&format!(
        "[ $(wc -l <{0}) -lt 2 ] || touch {1}",
        scene.folder.path().join("recovered").display(),
        done.display()
    ));
    let options =
        ["--budget-ms", "100000", "--agent-grace-ms", "20", "--recover", "sh", "-c", script.as_str()];
    let mut dog = scene.watchdog(&options);
    std::thread::sleep(Duration::from_millis(60));
    assert!(!lines.exists(), "the agent lives");
    scene.end_agent();
    dog.ends();
    assert_eq!(fs::read_to_string(lines).unwrap(), "recovered\nrecovered\n");
    assert_eq!(scene.verdict(), None, "the budget isn't over, and it decides nothing before");
}

#[test]
fn the_target_has_no_budget() {
    let mut scene = Scene::new();
    let (script, lines) = scene.recovery("exit 0");
    let options = ["--side", "target", "--agent-grace-ms", "10000", "--recover", "sh", "-c", script.as_str()];
    let mut dog = scene.watchdog(&options);
    scene.end_agent();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!((scene.verdict(), lines.exists()), (None, false));
    scene.state.mark_done(&scene.migration).unwrap();
    dog.ends();
}

#[test]
fn without_a_recovery_it_ends_when_its_part_is_done() {
    let mut scene = Scene::new();
    let mut dog = scene.watchdog(&["--budget-ms", "100"]);
    scene.end_agent();
    dog.ends();
    assert_eq!(scene.verdict(), Some((Verdict::Kept, By::Watchdog)));
    let left: Vec<_> = fs::read_dir(scene.state.migration_path(&scene.migration)).unwrap().collect();
    assert_eq!(left.len(), 2, "plan and record only: {left:?}");
}

#[test]
fn what_it_cannot_guard_it_does_not_claim_to() {
    let scene = Scene::new();
    for (options, code) in [(&["--budget-ms", "5"][..], 1), (&["--what"], 2)] {
        let output = Command::new(env!("CARGO_BIN_EXE_transship-watchdog"))
            .arg("--state")
            .arg(scene.state.path())
            .args(["--migration", "unknown", "--pod-uid", "pod-1", "--agent-pid", "1"])
            .args(options)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert_ne!(output.stderr, b"");
    }
}

//! Calls that can't be followed are refused before anything stands still, each by its own reason, and the workload
//! isn't disturbed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transship_lab::{AGENT_PORT, Lab, NodeName, Workload, output, until};
use transship_proto::cri::Mount;

use crate::evidence::{Counter, PATIENCE};
use crate::footprint::Footprint;
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{Migration, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("refusals":
        an_unknown_container,
        an_unreachable_target,
        a_target_that_is_the_source,
        a_certificate_of_another_authority,
        a_certificate_that_has_expired,
        a_paused_container,
        a_terminal,
        an_open_standard_input,
        an_exec_session_that_runs,
        a_host_s_folder_that_the_target_lacks,
        an_unlinked_file_that_two_containers_share,
    )
}

/// How long everything may take to be as it was.
const SOON: Duration = Duration::from_secs(10);

/// `call` is refused for that reason; the counter doesn't notice and neither node bears a trace of it.
fn refused(counter: &Counter, lab: &Lab, call: &Migration, reason: &str) -> Result<()> {
    let before = Footprint::of(lab)?;
    call.run(lab)?.refused_with(reason)?;
    counter.runs_on()?;
    before.awaited(lab, SOON)
}

/// A counter on `a` that nothing is wrong with.
fn counter(lab: &Lab) -> Result<Counter<'_>> {
    Counter::start(lab, NodeName::A, "counter")
}

/// A counter on `a` whose configuration has been changed.
fn counter_with(
    lab: &Lab,
    change: impl FnOnce(&mut transship_proto::cri::ContainerConfig),
) -> Result<Counter<'_>> {
    let workload = Counter::workload("counter", 1);
    let a = lab.node(NodeName::A);
    lab.node(NodeName::B).image_of(&workload)?;
    let mut config = workload.container(&a.image_of(&workload)?);
    change(&mut config);
    let container = a.cri()?.run(a.prepare(&workload)?, config)?;
    Counter::started(lab, "counter", &container.address)
}

fn an_unknown_container(lab: &Lab) -> Result<()> {
    refused(&counter(lab)?, lab, &migration("nobody", NodeName::A), "ContainerNotFound")
}

fn an_unreachable_target(lab: &Lab) -> Result<()> {
    let counter = counter(lab)?;
    let call = migration("counter", NodeName::A);
    refused(&counter, lab, &call.clone().to("10.77.0.12:7999"), "TargetUnreachable")?;
    refused(&counter, lab, &call.to("10.77.0.99:7443"), "TargetUnreachable")
}

fn a_target_that_is_the_source(lab: &Lab) -> Result<()> {
    let here = format!("{}:{AGENT_PORT}", NodeName::A.address());
    refused(&counter(lab)?, lab, &migration("counter", NodeName::A).to(&here), "SameNode")
}

/// Files of an identity, and where they lie on a node.
const IDENTITY: [(&str, &str); 2] = [("b.crt", "node.crt"), ("b.key", "node.key")];

/// Gives `b` the certificate in a folder, and its agent a chance to read it.
fn identify(lab: &Lab, folder: &Path) -> Result<()> {
    let b = lab.node(NodeName::B);
    for (from, to) in IDENTITY {
        let from = folder.join(from);
        fs::copy(&from, b.path("/etc/transship")?.join(to))
            .with_context(|| format!("copy {}", from.display()))?;
    }
    b.kill_agent()?;
    Ok(b.start_agent(&[])?)
}

/// Makes a certificate for `b` in a folder of its own, which belongs to the lab.
fn issue(lab: &Lab, authority: &Path, name: &str, more: &[&str]) -> Result<PathBuf> {
    let out = lab.identities().join(name);
    let mut issue = transship()?;
    issue.args(["pki", "issue", "--name", "b", "--address", NodeName::B.address(), "--dir"]).arg(authority);
    output(issue.arg("--out").arg(&out).args(more))?;
    Ok(out)
}

fn transship() -> Result<std::process::Command> {
    let programs = std::env::var_os(transship_lab::PROGRAMS_VARIABLE).context("find transship")?;
    Ok(std::process::Command::new(Path::new(&programs).join("transship")))
}

fn a_certificate_of_another_authority(lab: &Lab) -> Result<()> {
    let counter = counter(lab)?;
    let stranger = lab.identities().join("stranger");
    output(transship()?.args(["pki", "init", "--dir"]).arg(&stranger))?;
    identify(lab, &issue(lab, &stranger, "of-a-stranger", &[])?)?;
    refused(&counter, lab, &migration("counter", NodeName::A), "WrongCertificate")?;
    identify(lab, &lab.identities())
}

fn a_certificate_that_has_expired(lab: &Lab) -> Result<()> {
    let counter = counter(lab)?;
    identify(lab, &issue(lab, &lab.identities(), "expired", &["--days", "-1"])?)?;
    refused(&counter, lab, &migration("counter", NodeName::A), "ExpiredCertificate")?;
    identify(lab, &lab.identities())
}

fn a_paused_container(lab: &Lab) -> Result<()> {
    let counter = counter(lab)?;
    let id = node::must_run(lab, NodeName::A, "counter")?.id;
    let a = lab.node(NodeName::A);
    a.run(&["ctr", "--namespace", "k8s.io", "tasks", "pause", &id])?;
    let before = Footprint::of(lab)?;
    migration("counter", NodeName::A).run(lab)?.refused_with("ContainerPaused")?;
    before.awaited(lab, SOON)?;
    let state = a.run(&["ctr", "--namespace", "k8s.io", "tasks", "list"])?;
    ensure!(state.contains("PAUSED"), "it was let run, which nobody asked for:\n{state}");
    a.run(&["ctr", "--namespace", "k8s.io", "tasks", "resume", &id])?;
    counter.runs_on()
}

fn a_terminal(lab: &Lab) -> Result<()> {
    let counter = counter_with(lab, |config| config.tty = true)?;
    refused(&counter, lab, &migration("counter", NodeName::A), "TerminalAttached")
}

fn an_open_standard_input(lab: &Lab) -> Result<()> {
    let counter = counter_with(lab, |config| config.stdin = true)?;
    refused(&counter, lab, &migration("counter", NodeName::A), "StdinOpen")
}

fn an_exec_session_that_runs(lab: &Lab) -> Result<()> {
    lab.start(NodeName::A, &Workload::new("shell", "shell"))?;
    let id = node::must_run(lab, NodeName::A, "shell")?.id;
    let a = lab.node(NodeName::A);
    let mut exec = a.command("ctr")?;
    exec.args(["--namespace", "k8s.io", "tasks", "exec", "--exec-id", "visit", &id, "sleep", "1000"]);
    let mut exec = exec.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let visits = || {
        let all =
            node::processes(a).map_err(|error| transship_lab::LabError::Broken(format!("{error:#}")))?;
        Ok(all.iter().any(|process| process.command == "sleep 1000").then_some(()))
    };
    until("the start of the exec session", PATIENCE, visits)?;
    let before = Footprint::of(lab)?;
    migration("shell", NodeName::A).run(lab)?.refused_with("ExecSession")?;
    before.awaited(lab, SOON)?;
    a.run(&["ctr", "--namespace", "k8s.io", "tasks", "kill", "--exec-id", "visit", "--signal", "KILL", &id])?;
    exec.wait()?;
    // Without the visitor it can go.
    until("the end of the exec session", PATIENCE, || Ok(visits()?.is_none().then_some(())))?;
    crate::transship::migrate(lab, "shell", NodeName::A)
}

fn a_host_s_folder_that_the_target_lacks(lab: &Lab) -> Result<()> {
    lab.node(NodeName::A).run(&["mkdir", "-p", "/srv/only-on-a"])?;
    let mount = Mount {
        host_path: "/srv/only-on-a".to_owned(),
        container_path: "/host".to_owned(),
        ..Mount::default()
    };
    let counter = counter_with(lab, |config| config.mounts.push(mount))?;
    refused(&counter, lab, &migration("counter", NodeName::A), "HostPathMissing")
}

/// Two shells that hold the same file of the Pod's shared memory, whose name is gone.
fn an_unlinked_file_that_two_containers_share(lab: &Lab) -> Result<()> {
    const WAIT: &str = "trap exit TERM; while :; do sleep 60 & wait; done";
    const SHM: &str = "/run/containerd/io.containerd.grpc.v1.cri/sandboxes";
    let one = format!(
        "exec 3<>/dev/shm/file; until [ -e /dev/shm/seen ]; do sleep 0.1; done; rm /dev/shm/file; touch /dev/shm/gone; {WAIT}"
    );
    let other = format!(
        "until [ -e /dev/shm/file ]; do sleep 0.1; done; exec 3<>/dev/shm/file; touch /dev/shm/seen; {WAIT}"
    );
    let containers: [(&str, &[&str]); 2] = [("one", &["sh", "-c", &one]), ("other", &["sh", "-c", &other])];
    let pod = node::start_pod(lab, NodeName::A, &Workload::new("pair", "shell"), &containers)?;
    let gone = lab.node(NodeName::A).path(format!("{SHM}/{}/shm/gone", pod.pod_id))?;
    until("an unlinked file", PATIENCE, || Ok(gone.exists().then_some(())))?;
    let before = Footprint::of(lab)?;
    migration("pair", NodeName::A).run(lab)?.refused_with("SharedByContainers")?;
    before.awaited(lab, SOON)
}

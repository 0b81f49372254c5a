//! What the tests do to a node, beside what the lab can.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use transship_lab::{Container, Cri, Lab, LabError, Node, NodeName, Workload, until};
use transship_proto::cri::runtime_service_client::RuntimeServiceClient;
use transship_proto::cri::{ContainerState, ContainerStatusRequest};

/// How long an agent may take to reach a point or to die there.
pub const SOON: Duration = Duration::from_secs(20);
/// The file in which a held agent says so; it goes on when that is removed.
const HOLD: &str = "/run/transship/hold";

/// A process on a node.
#[derive(Debug, Clone)]
pub struct Process {
    /// As the node sees it.
    pub pid: u32,
    /// Its parent, as the node sees it.
    pub parent: u32,
    /// Arguments and all.
    pub command: String,
}

impl Process {
    /// The first word of its command, without its folder.
    pub fn program(&self) -> &str {
        let word = self.command.split(' ').next().unwrap_or_default();
        word.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is transship's agent.
    pub fn is_agent(&self) -> bool {
        self.program() == "transship" && self.command.contains(" agent ")
    }

    /// Whether it came in from outside and has nothing to do with the node. The node's own init has no parent either.
    pub fn is_visitor(&self) -> bool {
        self.parent == 0 && self.pid != 1
            || self.program() == "transship" && self.command.contains(" migrate ")
    }
}

/// All that runs on a node; what runs in its containers too.
pub fn processes(node: &Node) -> Result<Vec<Process>> {
    let proc = node.path("/proc")?;
    let mut found = vec![];
    for entry in fs::read_dir(&proc).context("list processes")? {
        let entry = entry.context("list processes")?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        // One that ends meanwhile is none.
        let (Ok(stat), Ok(line)) =
            (fs::read_to_string(entry.path().join("stat")), fs::read(entry.path().join("cmdline")))
        else {
            continue;
        };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let mut fields = tail.split_ascii_whitespace();
        let (state, parent) = (fields.next(), fields.next().and_then(|parent| parent.parse().ok()));
        if matches!(state, Some("Z" | "X")) {
            continue;
        }
        let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
        let command = if line.is_empty() { format!("[{name}]") } else { line };
        found.push(Process { pid, parent: parent.unwrap_or_default(), command });
    }
    Ok(found)
}

/// Whether the node's agent runs.
pub fn agent_runs(node: &Node) -> Result<bool> {
    Ok(processes(node)?.iter().any(Process::is_agent))
}

/// Starts the node's agent anew with faults, such as `die@source:freeze`.
pub fn agent_with(node: &Node, faults: &str) -> Result<()> {
    if agent_runs(node)? {
        node.kill_agent()?;
    }
    // Of an agent that was killed while it was held.
    remove_hold(node)?;
    Ok(node.start_agent(&[("TRANSSHIP_FAULTS", faults)])?)
}

/// Sees that the node's agent runs and does nothing but its work.
pub fn agent_without_faults(node: &Node) -> Result<()> {
    let agent = processes(node)?.into_iter().find(Process::is_agent);
    if let Some(agent) = agent {
        let environment =
            fs::read(node.path(format!("/proc/{}/environ", agent.pid))?).context("read an environment")?;
        if !String::from_utf8_lossy(&environment).contains("TRANSSHIP_FAULTS") {
            return Ok(());
        }
        node.kill_agent()?;
    }
    remove_hold(node)?;
    Ok(node.start_agent(&[])?)
}

/// Waits until the agent holds where it was asked to.
pub fn await_hold(node: &Node) -> Result<()> {
    let file = node.path(HOLD)?;
    let what = format!("the hold of node {}'s agent", node.name());
    Ok(until(&what, SOON, || Ok(file.exists().then_some(())))?)
}

/// Lets a held agent go on.
pub fn release(node: &Node) -> Result<()> {
    remove_hold(node)
}

/// Waits until the agent has died.
pub fn await_death(node: &Node) -> Result<()> {
    let what = format!("the death of node {}'s agent", node.name());
    let look = || agent_runs(node).map_err(|error| LabError::Broken(format!("{error:#}")));
    Ok(until(&what, SOON, || Ok((!look()?).then_some(())))?)
}

fn remove_hold(node: &Node) -> Result<()> {
    match fs::remove_file(node.path(HOLD)?) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("release an agent"),
        _ => Ok(()),
    }
}

/// Starts a Pod of several containers of the workload's image, each with a name and arguments of its own, and gives the
/// first one.
pub fn start_pod(
    lab: &Lab,
    on: NodeName,
    workload: &Workload,
    containers: &[(&str, &[&str])],
) -> Result<Container> {
    let node = lab.node(on);
    lab.node(on.peer()).image_of(workload)?;
    let reference = node.image_of(workload)?;
    let (sandbox, cri) = (node.prepare(workload)?, node.cri()?);
    let mut first: Option<Container> = None;
    for (number, (name, arguments)) in containers.iter().enumerate() {
        let mut config = workload.clone().with_arguments(arguments.iter().copied()).container(&reference);
        config.metadata.get_or_insert_default().name = (*name).to_owned();
        config.log_path = format!("main/{number}.log");
        match &first {
            None => first = Some(cri.run(sandbox.clone(), config)?),
            Some(first) => drop(cri.run_in(&first.pod_id, sandbox.clone(), config)?),
        }
    }
    first.context("a Pod has at least one container")
}

/// A running container of the Pod of that name, by the word of the node's containerd.
pub fn running(lab: &Lab, node: NodeName, pod: &str) -> Result<Option<Container>> {
    let cri = lab.node(node).cri()?;
    for container in containers_of(&cri, pod)? {
        if container.state() == ContainerState::ContainerRunning {
            let address = cri.address(&container.pod_sandbox_id)?;
            return Ok(Some(Container { id: container.id, pod_id: container.pod_sandbox_id, address }));
        }
    }
    Ok(None)
}

/// Whether a container of the Pod of that name was ended by a signal, by the word of the node's containerd.
pub fn has_crashed(lab: &Lab, node: NodeName, pod: &str) -> Result<bool> {
    let cri = lab.node(node).cri()?;
    for container in containers_of(&cri, pod)? {
        let request =
            ContainerStatusRequest { container_id: container.id, ..ContainerStatusRequest::default() };
        let call = async |mut client: RuntimeServiceClient<_>| client.container_status(request).await;
        let status = cri.call("ContainerStatus", call)?.status.unwrap_or_default();
        // As a shell counts them.
        if status.state() == ContainerState::ContainerExited && status.exit_code > 128 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn containers_of(cri: &Cri, pod: &str) -> Result<Vec<transship_proto::cri::Container>> {
    let pods = cri.pods()?;
    let named = |container: &transship_proto::cri::Container| {
        let sandbox = pods.iter().find(|sandbox| sandbox.id == container.pod_sandbox_id);
        sandbox.and_then(|sandbox| sandbox.metadata.as_ref()).is_some_and(|data| data.name == pod)
    };
    Ok(cri.containers()?.into_iter().filter(named).collect())
}

/// The same, where there must be one.
pub fn must_run(lab: &Lab, node: NodeName, pod: &str) -> Result<Container> {
    running(lab, node, pod)?.with_context(|| format!("{pod} doesn't run on node {node}"))
}

/// Migrations that were begun on a node and are not done. Of those that are, the plan and the record stay on purpose.
pub fn unfinished(node: &Node) -> Result<Vec<String>> {
    let Ok(migrations) = fs::read_dir(node.path("/var/lib/transship/migrations")?) else { return Ok(vec![]) };
    let mut found = vec![];
    for migration in migrations {
        let migration = migration.context("list migrations")?;
        if !migration.path().join("done").exists() {
            found.push(migration.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Waits until neither node has anything to do any more, whoever does it.
pub fn await_the_end_of_all_migrations(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        let what = format!("the end of all migrations on node {}", node.name());
        let look = || unfinished(node).map_err(|error| LabError::Broken(format!("{error:#}")));
        until(&what, SOON, || Ok(look()?.is_empty().then_some(())))?;
    }
    Ok(())
}

/// A process on a node with that name (as the kernel has it, its first 15 letters) and that word in its command, to be
/// killed without delay: it is found and named as the host has it. CRIU puts a title in the place of its command when it
/// begins to work: `criu: dump --rpc -t PID`.
pub fn hunt(node: &Node, (name, word): (&str, &str)) -> Result<Option<transship_lab::Process>> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let home = namespace(&node.pid()?.to_string());
    for entry in fs::read_dir("/proc").context("list processes")? {
        let entry = entry.context("list processes")?;
        let pid = entry.file_name().to_string_lossy().into_owned();
        let Ok(number) = pid.parse() else { continue };
        let named = fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let command = || fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let fits = || {
            let command = command();
            let words = command.split(|byte| matches!(byte, 0 | b' '));
            words.into_iter().any(|argument| argument == word.as_bytes())
        };
        if named && fits() && namespace(&pid) == home {
            return Ok(transship_lab::Process::with_pid(number));
        }
    }
    Ok(None)
}

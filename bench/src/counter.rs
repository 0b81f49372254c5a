//! The workload that is moved: it fills its memory, then counts and answers.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use transship_lab::{AGENT_PORT, Container, Lab, NodeName, Workload, until};

const PORT: u16 = 8080;
/// It doesn't count on: what is restored by hand finds its file, which isn't carried along, as empty as it was.
const NEVER: &str = "86400000";
/// How long it may take to fill its memory.
const FILLED: Duration = Duration::from_secs(60);

/// Starts one with that much memory in a Pod of that name on node a, and waits until its memory is full.
pub fn start(lab: &Lab, name: &str, mib: u64) -> Result<Container> {
    let mib = mib.to_string();
    let arguments = ["--mib", &mib, "--interval-ms", NEVER];
    let workload = Workload::new(name, "counter").with_arguments(arguments);
    let container = lab.start(NodeName::A, &workload)?;
    let address = format!("{}:{PORT}", container.address);
    // It listens when everything else is there.
    let answers = || lab.client().in_network(|| TcpStream::connect(&address).ok());
    until(&format!("an answer of {name}"), FILLED, answers)?;
    Ok(container)
}

/// Moves a Pod's container from that node to the other.
pub fn migrate(lab: &Lab, from: NodeName, pod: &str) -> Result<Value> {
    let to = format!("{}:{AGENT_PORT}", from.peer().address());
    let out = lab.node(from).run(&[
        "transship",
        "migrate",
        pod,
        "--to",
        &to,
        "--freeze-budget",
        "120s",
        "--json",
    ])?;
    let report: Value = serde_json::from_str(&out).context("transship's report")?;
    ensure!(report.get("ok") == Some(&Value::Bool(true)), "it did not move: {report}");
    Ok(report)
}

/// Removes all Pods of a node.
pub fn remove_pods(lab: &Lab, node: NodeName) -> Result<()> {
    let cri = lab.node(node).cri()?;
    for pod in cri.pods()? {
        cri.remove_pod(&pod.id)?;
    }
    Ok(())
}

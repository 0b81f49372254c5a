//! The Pod that a moved one becomes is the same but for its identity.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use transship_lab::{CgroupVersion, Lab, NodeName};
use transship_proto::cri::{
    Capability, ContainerStatusRequest, KeyValue, LinuxContainerResources, Mount, PodSandboxStatusRequest,
};

use crate::evidence::Counter;
use crate::node::must_run;
use crate::scenario::{Scenario, scenarios};
use crate::transship::migrate;

pub fn all() -> Vec<Scenario> {
    scenarios!("equal": settings_mounts_environment_limits_log_and_labels_come_over)
}

const MEMORY: i64 = 256 << 20;
const NAME: &str = "equal";
const SHARED: &str = "/srv/shared";

fn settings_mounts_environment_limits_log_and_labels_come_over(lab: &Lab) -> Result<()> {
    for node in lab.nodes() {
        node.run(&["mkdir", "-p", SHARED])?;
    }
    let workload = Counter::workload(NAME, 1);
    let (a, b) = (lab.node(NodeName::A), lab.node(NodeName::B));
    b.image_of(&workload)?;
    let mut config = workload.container(&a.image_of(&workload)?);
    let pairs = |kind: &str| {
        [("example.com/kind", kind), ("example.com/empty", "")].map(|(key, value)| (key.into(), value.into()))
    };
    config.labels.extend(pairs("label"));
    config.annotations.extend(pairs("annotation"));
    config.envs.push(KeyValue { key: "GREETING".into(), value: "two words = one\tvalue".into() });
    config.working_dir = "/srv".into();
    config.mounts.push(Mount {
        container_path: "/shared".into(),
        host_path: SHARED.into(),
        readonly: true,
        ..Mount::default()
    });
    let linux = config.linux.as_mut().context("the workload has no Linux part")?;
    linux.resources = Some(LinuxContainerResources {
        cpu_shares: 512,
        cpu_period: 100_000,
        cpu_quota: 150_000,
        memory_limit_in_bytes: MEMORY,
        oom_score_adj: 900,
        ..LinuxContainerResources::default()
    });
    let context = linux.security_context.as_mut().context("the workload has no security context")?;
    context.no_new_privs = true;
    context.capabilities = Some(Capability {
        drop_capabilities: vec!["NET_RAW".into(), "MKNOD".into()],
        ..Capability::default()
    });
    let mut sandbox = a.prepare(&workload)?;
    sandbox.labels.extend(pairs("label of the Pod"));
    sandbox.annotations.extend(pairs("annotation of the Pod"));
    let pod = sandbox.linux.as_mut().context("the sandbox has no Linux part")?;
    pod.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into());
    a.cri()?.run(sandbox, config)?;

    let before = description(lab, NodeName::A)?;
    for from in [NodeName::A, NodeName::B] {
        migrate(lab, NAME, from)?;
        let after = description(lab, from.peer())?;
        let mut differences = vec![];
        compare("", &before, &after, &mut differences);
        ensure!(differences.is_empty(), "after the move from {from}:\n{}", differences.join("\n"));
    }
    Ok(())
}

/// All that the runtime says of the Pod, and what the kernel says of its limits, without what is its identity there.
fn description(lab: &Lab, node: NodeName) -> Result<Value> {
    let container = must_run(lab, node, NAME)?;
    let cri = lab.node(node).cri()?;
    let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
    let of_container =
        cri.call("ContainerStatus", async |mut client| client.container_status(request).await)?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: container.pod_id.clone(), verbose: true };
    let of_sandbox =
        cri.call("PodSandboxStatus", async |mut client| client.pod_sandbox_status(request).await)?;
    let info = |info: &std::collections::HashMap<String, String>| -> Result<Map<String, Value>> {
        Ok(serde_json::from_str(info.get("info").context("the runtime gives no verbose status")?)?)
    };
    let (mut of_container_info, mut of_sandbox_info) = (info(&of_container.info)?, info(&of_sandbox.info)?);
    let mut take = |key: &str| of_container_info.remove(key).unwrap_or_default();
    let (mut config, mut spec, pid) = (take("config"), take("runtimeSpec"), take("pid"));
    // A sandbox's own namespaces are named by its first process.
    spec["linux"]["namespaces"] = Value::Null;
    // The target names by its digest what the source may have named by a tag; the digest itself is compared below.
    config["image"] = Value::Null;
    spec["annotations"]["io.kubernetes.cri.image-name"] = Value::Null;
    let status = of_container.status.context("the runtime gives no status")?;
    let uid = of_sandbox.status.and_then(|status| status.metadata).context("the Pod has no name")?.uid;
    let limit = match lab.cgroups() {
        CgroupVersion::V1 => memory_limit(lab, node, pid.as_u64().context("the container has no process")?)?,
        // Where the lab has version 2, the machine's memory controller is elsewhere.
        CgroupVersion::V2 => MEMORY.to_string(),
    };
    ensure!(limit == MEMORY.to_string(), "the memory limit on {node} is {limit}");
    let sandbox = of_sandbox_info.remove("config").unwrap_or_default();
    let directory = sandbox["log_directory"].clone();
    let whole = json!({
        "sandbox": sandbox,
        "container": config,
        "spec": spec,
        "image": status.image_id,
        "labels": status.labels,
        "annotations": status.annotations,
    });
    let text = whole
        .to_string()
        .replace(&container.id, "CONTAINER")
        .replace(&container.pod_id, "SANDBOX")
        .replace(&uid, "UID");
    let mut whole: Value = serde_json::from_str(&text)?;
    // The log goes on in the file where it was, which bears the name of the first Pod.
    whole["sandbox"]["log_directory"] = directory;
    whole["log"] = status.log_path.into();
    Ok(whole)
}

/// The limit that the kernel holds the process to.
fn memory_limit(lab: &Lab, node: NodeName, pid: u64) -> Result<String> {
    let script = format!(
        "cat /sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' /proc/{pid}/cgroup)/memory.limit_in_bytes"
    );
    Ok(lab.node(node).run(&["sh", "-c", &script])?.trim().to_owned())
}

/// Adds a line for everything that isn't the same in both.
fn compare(at: &str, before: &Value, after: &Value, differences: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&format!("{at}/{key}"), &of(one), &of(other), differences);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{at}/{index}"), one, other, differences);
            }
        }
        _ if before == after => (),
        _ => differences.push(format!("{at} was {before}, is {after}")),
    }
}

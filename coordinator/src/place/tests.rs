use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn facts() -> NodeFacts {
    NodeFacts {
        architecture: "x86_64".into(),
        cgroup_version: 2,
        runtime: "runc".into(),
        cpu_flags: vec!["avx".into()],
        ..NodeFacts::default()
    }
}

fn site(name: &str, change: impl FnOnce(&mut Value, &mut Report)) -> Site {
    let mut node = json!({"metadata": {"name": name, "labels": {"zone": "z"}}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}}});
    let mut agent = Report { facts: facts(), no_restore: vec![] };
    change(&mut node, &mut agent);
    Site { node: serde_json::from_value(node).unwrap(), pods: Vec::new(), agent: Ok(agent) }
}

fn plain(name: &str) -> Site {
    site(name, |_, _| ())
}

fn pod(change: impl FnOnce(&mut Value)) -> Pod {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a", "containers": [
        {"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}}]}});
    change(&mut pod);
    serde_json::from_value(pod).unwrap()
}

fn choose_for(
    pod: &Pod,
    target_node: Option<&str>,
    sites: &[Site],
) -> (Option<String>, Vec<(String, String)>) {
    let wish = Wish { pod, target_node, node_selector: &BTreeMap::new() };
    let choice = choose(&wish, sites);
    (choice.node, choice.rejected.into_iter().map(|node| (node.node, node.reason)).collect())
}

/// Why node b isn't taken, with node a the source.
fn reason(pod: &Pod, b: Site) -> String {
    let (node, rejected) = choose_for(pod, None, &[plain("a"), b]);
    assert_eq!(node, None);
    rejected.into_iter().find(|(node, _)| node == "b").map(|(_, reason)| reason).unwrap_or_default()
}

#[test]
fn the_other_node_is_taken_and_ones_own_is_not() {
    let (node, rejected) = choose_for(&pod(|_| ()), None, &[plain("a"), plain("b")]);
    assert_eq!(node.as_deref(), Some("b"));
    assert_eq!(rejected, [("a".into(), "SameNode".into())]);
}

#[test]
fn only_the_node_that_was_named_is_looked_at() {
    let sites = [plain("a"), plain("b"), plain("c")];
    assert_eq!(choose_for(&pod(|_| ()), Some("c"), &sites), (Some("c".into()), vec![]));
    assert_eq!(choose_for(&pod(|_| ()), Some("a"), &sites), (None, vec![("a".into(), "SameNode".into())]));
    assert_eq!(
        choose_for(&pod(|_| ()), Some("x"), &sites),
        (None, vec![("x".into(), "NodeNotFound".into())])
    );
}

#[test]
fn each_rule_has_its_reason() {
    let plain_pod = pod(|_| ());
    let node = |change: fn(&mut Value)| site("b", |node, _| change(node));
    let agent = |change: fn(&mut Report)| site("b", |_, agent| change(agent));
    let cases = [
        ("NodeNotReady", node(|node| node["status"]["conditions"][0]["status"] = json!("Unknown"))),
        ("Unschedulable", node(|node| node["spec"]["unschedulable"] = json!(true))),
        ("Tainted", node(|node| node["spec"]["taints"] = json!([{"key": "gpu", "effect": "NoSchedule"}]))),
        ("InsufficientResources", node(|node| node["status"]["allocatable"]["memory"] = json!("1023Mi"))),
        ("InsufficientResources", node(|node| node["status"]["allocatable"]["pods"] = json!("0"))),
        ("NoRestorePath", agent(|agent| agent.no_restore = vec![Refusal::new("NoRestorePath", "")])),
        ("ArchMismatch", agent(|agent| agent.facts.architecture = "aarch64".into())),
        ("CgroupMismatch", agent(|agent| agent.facts.cgroup_version = 1)),
        ("RuntimeMismatch", agent(|agent| agent.facts.runtime = "crun".into())),
        ("CpuMismatch", agent(|agent| agent.facts.cpu_flags.clear())),
        ("TargetUnreachable", Site { agent: Err(Refusal::new("TargetUnreachable", "")), ..plain("b") }),
    ];
    for (expected, site) in cases {
        assert_eq!(reason(&plain_pod, site), expected);
    }
}

#[test]
fn selectors_and_affinity_hold_but_the_pin_of_a_former_move_does_not() {
    let affinity = |term: Value| {
        pod(|pod| {
            pod["spec"]["affinity"] = json!({"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        })
    };
    let pin = json!({"key": "metadata.name", "operator": "In", "values": ["a"]});
    let zone = |operator: &str, values: Value| json!({"key": "zone", "operator": operator, "values": values});
    let sites = [plain("a"), plain("b")];

    let pinned = affinity(json!({"matchFields": [pin], "matchExpressions": [zone("In", json!(["z"]))]}));
    assert_eq!(choose_for(&pinned, None, &sites).0.as_deref(), Some("b"));
    for term in [
        zone("In", json!(["y"])),
        zone("NotIn", json!(["z"])),
        zone("DoesNotExist", json!([])),
        zone("Gt", json!(["1"])),
    ] {
        assert_eq!(reason(&affinity(json!({"matchExpressions": [term]})), plain("b")), "PinnedToSource");
    }
    assert_eq!(
        reason(&pod(|pod| pod["spec"]["nodeSelector"] = json!({"disk": "ssd"})), plain("b")),
        "PinnedToSource"
    );
}

#[test]
fn a_toleration_opens_a_tainted_node() {
    let sites = [
        plain("a"),
        site("b", |node, _| {
            node["spec"]["taints"] = json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
        }),
    ];
    for toleration in [
        json!({"operator": "Exists"}),
        json!({"key": "gpu", "value": "yes"}),
        json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
    ] {
        let tolerant = pod(|pod| pod["spec"]["tolerations"] = json!([toleration]));
        assert_eq!(choose_for(&tolerant, None, &sites).0.as_deref(), Some("b"), "{toleration}");
    }
    let other = pod(|pod| pod["spec"]["tolerations"] = json!([{"key": "gpu", "value": "no"}]));
    assert_eq!(choose_for(&other, None, &sites).0, None);
}

#[test]
fn what_runs_there_takes_room_and_what_is_over_does_not() {
    let big = |phase: &str| {
        pod(|pod| {
            pod["spec"]["containers"][0]["resources"]["requests"]["memory"] = json!("3500Mi");
            pod["status"] = json!({"phase": phase});
        })
    };
    let with = |phase: &str| [plain("a"), Site { pods: vec![big(phase)], ..plain("b") }];
    assert_eq!(choose_for(&pod(|_| ()), None, &with("Running")).0, None);
    assert_eq!(choose_for(&pod(|_| ()), None, &with("Succeeded")).0.as_deref(), Some("b"));
}

#[test]
fn an_image_counts_more_than_room() {
    let with_status = pod(|pod| {
        pod["status"] = json!({"containerStatuses": [
            {"name": "main", "image": "web:1", "imageID": "web@sha256:1", "ready": true, "restartCount": 0}]});
    });
    let holds = site("b", |node, _| node["status"]["images"] = json!([{"names": ["web:1"]}]));
    let small = Site { pods: vec![pod(|_| ())], ..holds };
    let sites = [plain("a"), small, plain("c")];
    assert_eq!(choose_for(&with_status, None, &sites).0.as_deref(), Some("b"));
    assert_eq!(choose_for(&pod(|_| ()), None, &sites).0.as_deref(), Some("c"));
}

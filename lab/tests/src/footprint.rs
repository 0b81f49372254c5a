//! Everything that a migration could leave behind on a node.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use transship_lab::{Lab, Node};

use crate::node;

/// What is found on both nodes, one line each: `b: mount /run/transship/work/m-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footprint(BTreeSet<String>);

/// The agents' own sockets.
const SOCKETS: [&str; 2] = ["agent.sock", "runtime.sock"];
/// The packet filter in all the network namespaces that a node has; without what lets everything pass, such as the
/// empty table that the first use of iptables leaves.
const FILTERS: &str = r#"for namespace in /proc/1/ns/net /run/netns/*; do
    [ -e "$namespace" ] || continue
    for list in "nft list ruleset" iptables-save ip6tables-save; do
        nsenter --net="$namespace" $list 2>/dev/null | sed -E 's/ \[[0-9:]*\]$//; /^#|^COMMIT|^\*filter|^:[A-Z]+ ACCEPT/d
            /^table ip6? filter |chain (INPUT|OUTPUT|FORWARD) |type filter hook .* policy accept|^\s*\}?$/d'
    done
done
true"#;

impl Footprint {
    /// What there is now.
    pub fn of(lab: &Lab) -> Result<Self> {
        let mut found = BTreeSet::new();
        for node in lab.nodes() {
            let lines = look(node).with_context(|| format!("look for traces on node {}", node.name()))?;
            found.extend(lines.into_iter().map(|line| format!("{}: {line}", node.name())));
        }
        Ok(Footprint(found))
    }

    /// Waits until it is like this again; fails with what is missing and what is too much.
    pub fn awaited(&self, lab: &Lab, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let now = Footprint::of(lab)?;
            if now == *self {
                return Ok(());
            }
            if Instant::now() > deadline {
                let left = now.0.difference(&self.0).map(|line| format!("+ {line}"));
                let gone = self.0.difference(&now.0).map(|line| format!("- {line}"));
                bail!("not as it was before:\n{}", left.chain(gone).collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn look(node: &Node) -> Result<Vec<String>> {
    let mut found = vec![];
    for process in node::processes(node)? {
        // A look from outside is a process too, and so is whoever asks for the migration.
        if !process.is_agent() && !process.is_visitor() {
            found.push(format!("process {}", process.command));
        }
    }
    let mounts = fs::read_to_string(node.path("/proc/1/mountinfo")?).context("read the mounts")?;
    found.extend(mounts.lines().filter_map(|line| Some(format!("mount {}", line.split(' ').nth(4)?))));
    for (folder, depth) in
        [("/run/transship", 3), ("/var/lib/transship/fences", 2), ("/var/lib/transship/expected", 2)]
    {
        files(&node.path(folder)?, Path::new(folder), depth, &mut found)?;
    }
    found.extend(node::unfinished(node)?.into_iter().map(|migration| format!("unfinished {migration}")));
    cgroups(&node.path("/sys/fs/cgroup")?, Path::new("/"), 5, &mut found)?;
    for (what, call) in [
        ("containerd's", &["ctr", "--namespace", "k8s.io", "containers", "list", "--quiet"][..]),
        ("task", &["ctr", "--namespace", "k8s.io", "tasks", "list", "--quiet"]),
        ("lease", &["ctr", "--namespace", "k8s.io", "leases", "list", "--quiet"]),
        ("runc's", &["sh", "-c", "ls /run/containerd/runc/k8s.io 2>/dev/null; true"]),
        (
            "bundle",
            &["sh", "-c", "ls /run/containerd/io.containerd.runtime.v2.task/k8s.io 2>/dev/null; true"],
        ),
        ("namespace", &["sh", "-c", "ls /run/netns 2>/dev/null; true"]),
        ("address", &["sh", "-c", "ls /run/cni/pods 2>/dev/null | grep '^[0-9]'; true"]),
        ("link", &["sh", "-c", "ls /sys/class/net"]),
        ("filter", &["sh", "-c", FILTERS]),
    ] {
        let lines = node.run(call)?;
        found.extend(lines.lines().map(|line| format!("{what} {}", line.trim())));
    }
    let cri = node.cri()?;
    found.extend(cri.pods()?.into_iter().map(|pod| format!("Pod {}", pod.id)));
    found.extend(cri.containers()?.into_iter().map(|one| format!("container {} {:?}", one.id, one.state())));
    Ok(found)
}

/// Files and folders, as the node names them.
fn files(folder: &Path, name: &Path, depth: usize, found: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.context("list files")?;
        let leaf = entry.file_name();
        if SOCKETS.iter().any(|socket| leaf == *socket) {
            continue;
        }
        let name = name.join(&leaf);
        found.push(format!("file {}", name.display()));
        if depth > 1 && entry.path().is_dir() {
            files(&entry.path(), &name, depth - 1, found)?;
        }
    }
    Ok(())
}

/// All cgroups but those that a kubelet makes and removes, a Pod's own, unless there is something left in one.
fn cgroups(folder: &Path, name: &Path, depth: usize, found: &mut Vec<String>) -> Result<()> {
    // One that goes while it is looked at is gone.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = name.join(entry.file_name());
            if !name.parent().is_some_and(|parent| parent.ends_with("kubepods")) {
                found.push(format!("cgroup {}", name.display()));
            }
            if depth > 1 {
                cgroups(&entry.path(), &name, depth - 1, found)?;
            }
        }
    }
    Ok(())
}

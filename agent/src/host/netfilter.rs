//! CRIU drops all packets of a network namespace while it dumps or restores established connections, unless it is told
//! not to; a container runtime's own checkpoint doesn't tell it. One that was killed leaves its rules behind, and nobody
//! can reach the workload any more.

use std::path::Path;

use serde_json::Value;
use tokio::process::Command;
use tracing::warn;
use transship_proto::Fault;

use super::failed;

/// What CRIU's tables (nftables, `inet CRIU-PID`) and chains (iptables, `CRIU`) begin with. Source: criu/netfilter.c.
const MARK: &str = "CRIU";

/// Removes CRIU's rules from the network namespace that this file stands for (`/proc/PID/ns/net`).
pub async fn sweep(namespace: &Path) -> Result<(), Fault> {
    let tables = inside(namespace, &["nft", "-j", "list", "tables"]).await?;
    for table in tables.as_deref().map(criu_tables).unwrap_or_default() {
        inside(namespace, &["nft", "delete", "table", "inet", &table]).await?;
        warn!(table, namespace = %namespace.display(), "removed the packet filter that a dead CRIU had left");
    }
    for tool in ["iptables", "ip6tables"] {
        let rules = inside(namespace, &[tool, "-w", "-S"]).await?;
        for undo in rules.as_deref().map(undo_chains).unwrap_or_default() {
            let mut command = vec![tool, "-w"];
            command.extend(undo.iter().map(String::as_str));
            inside(namespace, &command).await?;
            warn!(tool, ?undo, namespace = %namespace.display(), "removed the packet filter that a dead CRIU had left");
        }
    }
    Ok(())
}

/// Runs a tool in that namespace; nothing where the node lacks the tool (then CRIU couldn't use it either) or where
/// the tool refuses, as an nft without its kernel part does.
async fn inside(namespace: &Path, command: &[&str]) -> Result<Option<String>, Fault> {
    let net = format!("--net={}", namespace.display());
    let output = Command::new("nsenter").arg(net).args(command).kill_on_drop(true).output().await;
    let output = output.map_err(failed(format_args!("running nsenter for {}", command.join(" "))))?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn criu_tables(listing: &str) -> Vec<String> {
    let listing: Value = serde_json::from_str(listing).unwrap_or_default();
    let entries = listing.get("nftables").and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |entry: Value| {
        let table = entry.get("table")?;
        let inet = table.get("family")?.as_str()? == "inet";
        table.get("name")?.as_str().filter(|name| inet && name.starts_with(MARK)).map(str::to_owned)
    };
    entries.into_iter().filter_map(name).collect()
}

/// The commands that undo CRIU's chains in an `iptables -S` listing: jumps first, then the chains themselves.
fn undo_chains(listing: &str) -> Vec<Vec<String>> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = listing.lines().map(words).collect();
    let jumps = lines.iter().filter(|line| match line.as_slice() {
        [verb, chain, .., target] => verb == "-A" && chain != MARK && target == MARK,
        _ => false,
    });
    let chain = lines.iter().any(|line| {
        line.first().is_some_and(|verb| verb == "-N") && line.get(1).is_some_and(|name| name == MARK)
    });
    let mut undo: Vec<Vec<String>> = jumps
        .map(|line| std::iter::once("-D".to_owned()).chain(line.iter().skip(1).cloned()).collect())
        .collect();
    if chain {
        undo.extend(["-F", "-X"].map(|verb| vec![verb.to_owned(), MARK.to_owned()]));
    }
    undo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_criu_s_tables_go() {
        let listing = r#"{"nftables":[{"metainfo":{"version":"1.1"}},{"table":{"family":"inet","name":"CRIU-4711","handle":3}},
            {"table":{"family":"ip","name":"filter","handle":1}},{"table":{"family":"inet","name":"kube-proxy","handle":2}}]}"#;
        assert_eq!(criu_tables(listing), ["CRIU-4711"]);
        assert!(criu_tables("nonsense").is_empty());
    }

    #[test]
    fn chains_go_after_their_jumps() {
        let listing = "-P INPUT ACCEPT\n-N CRIU\n-N OTHER\n-A INPUT -j CRIU\n-A OUTPUT -j CRIU\n-A OUTPUT -j OTHER\n-A CRIU -m mark --mark 0xc114 -j ACCEPT\n-A CRIU -j DROP\n";
        let undo: Vec<String> = undo_chains(listing).iter().map(|words| words.join(" ")).collect();
        assert_eq!(undo, ["-D INPUT -j CRIU", "-D OUTPUT -j CRIU", "-F CRIU", "-X CRIU"]);
        assert!(undo_chains("-P INPUT ACCEPT\n-N OTHER\n-A INPUT -j OTHER\n").is_empty());
    }
}

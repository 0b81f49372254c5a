//! The root file system looks the same after a move.

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName, Workload};
use transship_proto::cri::ExecSyncRequest;

use crate::node::must_run;
use crate::scenario::{Scenario, scenarios};
use crate::transship::migrate;

pub fn all() -> Vec<Scenario> {
    scenarios!("files": what_was_written_deleted_and_changed_looks_the_same)
}

/// Written, deleted, changed, moved, linked, owned by another, with other permissions, in folders of all these kinds.
const CHANGES: &str = r#"set -e
mkdir -p /data/deep/er && echo written >/data/deep/er/new && dd if=/dev/urandom of=/data/noise bs=64k count=9 2>/dev/null
: >/data/empty && dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=1000000 2>/dev/null
ln -s deep/er/new /data/link && ln /data/noise /data/hard && mkfifo /data/fifo
echo changed >>/etc/passwd && rm /bin/vi && mv /bin/wc /bin/count && rm -r /usr && mkdir /usr && echo other >/usr/file
chown 1234:4321 /data/empty && chmod 4711 /data/noise && chmod 1777 /data/deep && chmod 0 /data/sparse
touch -d '2001-02-03 04:05:06' /data/deep/er/new && touch '/data/a name with
two lines' && cd /data && mknod null c 1 3"#;

/// Of all files but those that the runtime makes anew for each sandbox: kind, permissions, owner, size, links, time of change and content of all that there is, and where links lead.
const LISTING: &str = r#"cd / && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./etc/hostname \
    -o -path ./etc/hosts -o -path ./etc/resolv.conf \) -prune -o -print | sort | while IFS= read -r f; do
    stat -c '%n %F %a %u:%g %s %h %Y' "$f"
    [ -L "$f" ] && readlink "$f"
    [ -f "$f" ] && [ ! -L "$f" ] && md5sum "$f"
done; true"#;

fn what_was_written_deleted_and_changed_looks_the_same(lab: &Lab) -> Result<()> {
    lab.start(NodeName::A, &Workload::new("files", "shell"))?;
    let fresh = shell(lab, NodeName::A, LISTING)?;
    shell(lab, NodeName::A, CHANGES)?;
    let before = shell(lab, NodeName::A, LISTING)?;
    ensure!(
        before != fresh && before.contains("./bin/count") && !before.contains("./bin/vi "),
        "nothing has changed"
    );
    for from in [NodeName::A, NodeName::B] {
        migrate(lab, "files", from)?;
        let after = shell(lab, from.peer(), LISTING)?;
        same(&before, &after).with_context(|| format!("after the move from {from}"))?;
    }
    Ok(())
}

/// Runs a script inside the container, as long as no migration looks.
fn shell(lab: &Lab, node: NodeName, script: &str) -> Result<String> {
    let container_id = must_run(lab, node, "files")?.id;
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let request = ExecSyncRequest { container_id, cmd, timeout: 60 };
    let cri = lab.node(node).cri()?;
    let answer = cri.call("ExecSync", async |mut client| client.exec_sync(request).await)?;
    let said = String::from_utf8_lossy(&answer.stderr);
    ensure!(answer.exit_code == 0, "the script ended with {}: {said}", answer.exit_code);
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

fn same(before: &str, after: &str) -> Result<()> {
    let differs = |one: &str, other: &str| {
        let lines: Vec<String> =
            one.lines().filter(|line| !other.lines().any(|also| also == *line)).map(str::to_owned).collect();
        lines.join("\n")
    };
    ensure!(before == after, "was:\n{}\nis:\n{}", differs(before, after), differs(after, before));
    Ok(())
}

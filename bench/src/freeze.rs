//! How long a 64 MiB counter stands still, beside the same `runc checkpoint` and `runc restore` by hand.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use transship_lab::{Lab, NodeName};

use crate::counter::{migrate, start};
use crate::usage::median;

const NAME: &str = "frozen";

/// By hand: freeze, dump into a tmpfs, restore from it on the same node from a copy of the bundle. Prints the three
/// times in milliseconds. Nothing is sent anywhere, nothing verified, and nobody decides anything.
const BY_HAND: &str = r#"set -e
id=$1; root=/run/containerd/runc/k8s.io; bundle=/run/containerd/io.containerd.runtime.v2.task/k8s.io/$id; work=/run/by-hand
mkdir -p $work; mount -t tmpfs tmpfs $work; mkdir -p $work/images $work/dump $work/restore $work/bundle/rootfs
jq '.linux.cgroupsPath="/by-hand"' $bundle/config.json > $work/bundle/config.json; mount --bind $bundle/rootfs $work/bundle/rootfs
printf 'tcp-close\nskip-in-flight\n' > $work/criu.conf; export CRIU_CONFIG_FILE=$work/criu.conf
now() { date +%s%N; }
t0=$(now); runc --root $root pause $id
t1=$(now); runc --root $root checkpoint --image-path $work/images --work-path $work/dump --leave-running --file-locks --tcp-skip-in-flight $id >/dev/null
t2=$(now); runc --root /run/by-hand-runc restore --detach --bundle $work/bundle --image-path $work/images --work-path $work/restore copy </dev/null >/dev/null 2>&1
t3=$(now); runc --root /run/by-hand-runc kill copy KILL
while runc --root /run/by-hand-runc state copy 2>/dev/null | grep -q '"running"'; do :; done
runc --root /run/by-hand-runc delete copy
umount $work/bundle/rootfs; umount $work; rmdir $work
runc --root $root resume $id
awk "BEGIN{printf \"%.3f %.3f %.3f\n\",($t1-$t0)/1e6,($t2-$t1)/1e6,($t3-$t2)/1e6}""#;

/// Milliseconds, medians.
#[derive(Debug, Clone, Serialize)]
pub struct Freeze {
    /// From the freeze to the target's word that it runs.
    pub transship_ms: f64,
    /// Of that, CRIU's dump with everything sent meanwhile.
    pub capture_ms: f64,
    /// Of that, from the sealed tree to the held and checked copy.
    pub restore_ms: f64,
    /// Pause, checkpoint and restore by hand.
    pub by_hand_ms: f64,
    /// Of that, the checkpoint.
    pub by_hand_checkpoint_ms: f64,
    /// Of that, the restore.
    pub by_hand_restore_ms: f64,
}

/// Moves the counter there and back, and dumps and restores it by hand in between.
pub fn measure(lab: &Lab, repeats: usize) -> Result<Freeze> {
    let mut container = start(lab, NAME, 64)?;
    let (mut here, mut ours, mut hand) = (NodeName::A, Vec::new(), Vec::new());
    // The first two warm CRIU's cache of the kernel's features on both nodes, for either way.
    for round in 0..repeats + 2 {
        let by_hand = by_hand(lab, here, &container.id)?;
        let report = migrate(lab, here, NAME)?;
        container.id = text(&report, "target_container")?;
        here = here.peer();
        if round >= 2 {
            hand.push(by_hand);
            ours.push(report);
        }
    }
    let of_ours = |pointer: &str| {
        median(ours.iter().filter_map(|report| report.pointer(pointer).and_then(Value::as_f64)))
    };
    Ok(Freeze {
        transship_ms: of_ours("/freeze_ms"),
        capture_ms: of_ours("/phases_ms/capture"),
        restore_ms: of_ours("/phases_ms/restore"),
        by_hand_ms: median(hand.iter().map(|times| times.iter().sum())),
        by_hand_checkpoint_ms: median(hand.iter().map(|[_, checkpoint, _]| *checkpoint)),
        by_hand_restore_ms: median(hand.iter().map(|[_, _, restore]| *restore)),
    })
}

fn by_hand(lab: &Lab, node: NodeName, id: &str) -> Result<[f64; 3]> {
    let out = lab.node(node).run(&["bash", "-c", BY_HAND, "by-hand", id])?;
    let times: Vec<f64> = out.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    times.try_into().ok().context("three times were expected")
}

fn text(report: &Value, key: &str) -> Result<String> {
    let text = report.get(key).and_then(Value::as_str).with_context(|| format!("the report has no {key}"))?;
    Ok(text.to_owned())
}

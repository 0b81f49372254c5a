//! How long a 64 MiB counter stands still, beside the same `runc checkpoint` and `runc restore` by hand.

mod by_hand;

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use transship_lab::{Lab, NodeName};

use crate::counter::{migrate, remove_pods, start};
use crate::usage::median;
use by_hand::{ByHand, Lock, Times};

/// The phases in which the workload stands still.
const FROZEN: [&str; 6] = ["freeze", "capture", "transfer", "restore", "decide", "resume"];

/// Milliseconds, medians.
#[derive(Debug, Clone, Serialize)]
pub struct Freeze {
    /// From the freeze to the target's word that it runs.
    pub transship_ms: f64,
    /// Of that, each phase: the capture is CRIU's dump with everything sent meanwhile, the restore goes from the sealed
    /// tree to the held and checked copy.
    pub phases_ms: BTreeMap<&'static str, f64>,
    /// Pause, checkpoint and restore by hand, CRIU keeping packets away as it does when it isn't told otherwise.
    pub by_hand_ms: f64,
    /// Of that, the pause.
    pub by_hand_pause_ms: f64,
    /// Of that, the checkpoint.
    pub by_hand_checkpoint_ms: f64,
    /// Of that, the restore.
    pub by_hand_restore_ms: f64,
    /// All three by hand with CRIU told to keep no packets away, as transship tells it.
    pub by_hand_unlocked_ms: f64,
}

/// Freezes a counter by hand and then moves it, a fresh one each time.
pub fn measure(lab: &Lab, repeats: usize) -> Result<Freeze> {
    let place = ByHand::prepare(lab)?;
    let (mut ours, mut hand, mut unlocked) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms both: programs, and what CRIU keeps about the kernel on either node.
    for round in 0..=repeats {
        let name = format!("counter-{round}");
        let container = start(lab, &name, 64)?;
        let by_hand = place.freeze(&container.id, Lock::Iptables)?;
        let by_hand_unlocked = place.freeze(&container.id, Lock::Skip)?;
        let report = migrate(lab, NodeName::A, &name)?;
        remove_pods(lab, NodeName::B)?;
        if round > 0 {
            hand.push(by_hand);
            unlocked.push(by_hand_unlocked);
            ours.push(report);
        }
    }
    let of_ours = |pointer: &str| {
        median(ours.iter().filter_map(|report| report.pointer(pointer).and_then(Value::as_f64)))
    };
    Ok(Freeze {
        transship_ms: of_ours("/freeze_ms"),
        phases_ms: FROZEN.into_iter().map(|phase| (phase, of_ours(&format!("/phases_ms/{phase}")))).collect(),
        by_hand_ms: median(hand.iter().map(Times::total_ms)),
        by_hand_pause_ms: median(hand.iter().map(|times| times.pause_ms)),
        by_hand_checkpoint_ms: median(hand.iter().map(|times| times.checkpoint_ms)),
        by_hand_restore_ms: median(hand.iter().map(|times| times.restore_ms)),
        by_hand_unlocked_ms: median(unlocked.iter().map(Times::total_ms)),
    })
}

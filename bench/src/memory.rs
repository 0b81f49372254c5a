//! The agents' memory and what they write to the disk while 1 GiB moves.

use anyhow::{Context, Result};
use serde::Serialize;
use transship_lab::{Lab, NodeName};

use crate::counter::{migrate, start};

const NAME: &str = "large";

/// The agent's peak memory in KiB, and what it has had written to a disk so far in bytes (`/proc/PID/io`: pages of a
/// tmpfs don't count there).
const LOOK: &str = r"p=$(pgrep -x transship | head -1); awk '/VmHWM/{print $2}' /proc/$p/status; awk '/^write_bytes/{print $2}' /proc/$p/io";

/// What was seen.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// The source's agent, in MiB.
    pub source_peak_mib: f64,
    /// The target's agent, in MiB.
    pub target_peak_mib: f64,
    /// Bytes that both agents had written to a disk meanwhile: plans, markers and records.
    pub written_to_disk: u64,
}

/// Moves 1 GiB from a to b.
pub fn measure(lab: &Lab) -> Result<Memory> {
    start(lab, NAME, 1024)?;
    let before = [look(lab, NodeName::A)?, look(lab, NodeName::B)?];
    migrate(lab, NodeName::A, NAME)?;
    let after = [look(lab, NodeName::A)?, look(lab, NodeName::B)?];
    let written = after.iter().zip(&before).map(|(after, before)| after.1.saturating_sub(before.1));
    Ok(Memory {
        source_peak_mib: after[0].0 as f64 / 1024.0,
        target_peak_mib: after[1].0 as f64 / 1024.0,
        written_to_disk: written.sum(),
    })
}

fn look(lab: &Lab, node: NodeName) -> Result<(u64, u64)> {
    let out = lab.node(node).run(&["bash", "-c", LOOK])?;
    let mut numbers = out.split_whitespace().map(str::parse::<u64>);
    let mut next =
        || numbers.next().context("the agent can't be looked at")?.context("a number was expected");
    Ok((next()?, next()?))
}

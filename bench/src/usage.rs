//! What a process has used so far.

use anyhow::Result;
use procfs::process::Process;
use serde::{Deserialize, Serialize};

/// One end's cost of one transfer.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of content, before compression.
    pub bytes: u64,
    /// From the first byte to the other end's last word.
    pub seconds: f64,
    /// User and system time of this end's process.
    pub cpu_seconds: f64,
    /// The most resident memory that this process had, in MiB; 0 where that isn't known.
    pub peak_mib: f64,
}

/// CPU time of this process so far, in seconds.
pub fn cpu_seconds() -> Result<f64> {
    let stat = Process::myself()?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// The most resident memory of this process so far, in MiB.
pub fn peak_mib() -> Result<f64> {
    Ok(Process::myself()?.status()?.vmhwm.unwrap_or(0) as f64 / 1024.0)
}

/// The middle one; of an even number the lower of the two in the middle. 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.0);
        assert_eq!(median([]), 0.0);
    }
}

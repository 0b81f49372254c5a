//! Whether compressing pays.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a sender compresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// What pays: a chunk is compressed when that takes a worker less time than it spares it waiting for the network.
    #[default]
    Auto,
    /// Everything that shrinks.
    Always,
}

/// Share of the newest measurement in an average.
const NEWEST: f64 = 1.0 / 8.0;

/// After so many chunks that were sent as they are one is compressed, if there is time to be won.
const RETRY: u32 = 16;

/// Weighs a worker's time for compressing against its time for waiting, by what the last chunks took.
///
/// Where the network is what everything waits for, workers queue up before a lane and have the time. Where it isn't,
/// because it is fast or because few bytes come, compressing only takes processors away from whoever makes the bytes
/// and from QUIC. Between the two the average moves to and fro, and so some chunks are compressed and some are not.
#[derive(Debug)]
pub(super) struct Tradeoff {
    compression: Mutex<Compression>,
    averages: Mutex<Averages>,
}

#[derive(Debug, Clone, Copy)]
struct Averages {
    /// Seconds that a worker waits for each byte that it hands to a lane.
    wait: f64,
    /// Seconds that it takes to compress a byte.
    cost: f64,
    /// Share of the bytes that compressing takes away from what shrinks.
    saving: f64,
    /// Chunks since one was compressed.
    since: u32,
}

impl Default for Averages {
    fn default() -> Self {
        // zstd's level 1, until it has been measured here.
        Self { wait: 0.0, cost: 1.0 / 430e6, saving: 0.5, since: 0 }
    }
}

impl Tradeoff {
    pub fn new() -> Self {
        Self { compression: Mutex::default(), averages: Mutex::default() }
    }

    pub fn set(&self, compression: Compression) {
        *self.compression.lock().unwrap_or_else(PoisonError::into_inner) = compression;
    }

    /// Whether the next chunk is to be compressed.
    pub fn pays(&self) -> bool {
        if *self.compression.lock().unwrap_or_else(PoisonError::into_inner) == Compression::Always {
            return true;
        }
        let mut averages = self.averages();
        averages.since += 1;
        let Averages { wait, cost, saving, since } = *averages;
        // What would pay if more were saved is tried now and then: other content may shrink better.
        let pays = wait * saving > cost || wait > cost && since.is_multiple_of(RETRY);
        if pays {
            averages.since = 0;
        }
        pays
    }

    /// A worker waited so long to hand over so many bytes.
    pub fn waited(&self, bytes: usize, time: Duration) {
        if bytes > 0 {
            approach(&mut self.averages().wait, time.as_secs_f64() / bytes as f64);
        }
    }

    /// A worker took so long to make `after` bytes out of `before`.
    pub fn compressed(&self, before: usize, after: usize, time: Duration) {
        let mut averages = self.averages();
        approach(&mut averages.cost, time.as_secs_f64() / before as f64);
        approach(&mut averages.saving, 1.0 - after as f64 / before as f64);
    }

    fn averages(&self) -> MutexGuard<'_, Averages> {
        // Numbers that are changed one by one are whole, whoever panicked.
        self.averages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn approach(average: &mut f64, value: f64) {
    *average += (value - *average) * NEWEST;
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 256 << 10;

    /// Shares of chunks that are compressed on a link of so many bytes a second, by workers that halve a chunk in a
    /// millisecond each.
    fn share(link: f64, workers: f64) -> f64 {
        let (tradeoff, mut compressed) = (Tradeoff::new(), 0);
        for _ in 0..1000 {
            let (mut work, mut bytes) = (0.2e-3, CHUNK);
            if tradeoff.pays() {
                compressed += 1;
                tradeoff.compressed(CHUNK, CHUNK / 2, Duration::from_millis(1));
                (work, bytes) = (work + 1e-3, CHUNK / 2);
            }
            // All others wait before the same lane.
            let wait = (workers * bytes as f64 / link - work).max(0.0);
            tradeoff.waited(bytes, Duration::from_secs_f64(wait));
        }
        f64::from(compressed) / 1000.0
    }

    #[test]
    fn a_slow_link_is_spared_and_a_fast_one_is_filled() {
        assert!(share(12e6, 2.0) > 0.9, "100 Mbit/s");
        assert!(share(118e6, 2.0) > 0.9, "1 Gbit/s");
        assert!(share(3e9, 2.0) < 0.01, "25 Gbit/s, two cores");
        assert!(share(3e9, 64.0) > 0.5, "25 Gbit/s, 64 cores");
    }

    #[test]
    fn content_that_shrinks_better_is_found_out() {
        let tradeoff = Tradeoff::new();
        // It would take more than this content shrinks.
        let wait = Duration::from_millis(2);
        for _ in 0..100 {
            tradeoff.waited(CHUNK, wait);
            tradeoff.compressed(CHUNK, CHUNK / 8 * 7, Duration::from_millis(1));
        }
        let mut compressed = 0;
        for _ in 0..1000 {
            tradeoff.waited(CHUNK, wait);
            if tradeoff.pays() {
                compressed += 1;
                tradeoff.compressed(CHUNK, CHUNK / 8, Duration::from_millis(1));
            }
        }
        assert!(compressed > 800, "{compressed}");
    }

    #[test]
    fn nothing_is_compressed_before_anything_was_waited_for() {
        assert!(!Tradeoff::new().pays());
        let always = Tradeoff::new();
        always.set(Compression::Always);
        assert!(always.pays());
    }
}

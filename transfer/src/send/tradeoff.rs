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
/// A wait that is shorter than this share of the time for compressing is none.
const NO_WAIT: f64 = 1.0 / 8.0;

/// Weighs a worker's time for compressing a chunk against its time for waiting, by what the last chunks took.
///
/// Where the network is what everything waits for, workers queue up before a lane and have the time. Where it isn't,
/// because it is fast or because few bytes come, compressing only takes processors away from whoever makes the bytes
/// and from QUIC. Between the two the averages move to and fro, and so some chunks are compressed and some are not.
#[derive(Debug, Default)]
pub(super) struct Tradeoff(Mutex<Scales>);

#[derive(Debug)]
struct Scales {
    compression: Compression,
    /// How long a worker waits for the network with a chunk that isn't compressed, in seconds for each byte of content.
    wait: f64,
    /// How long compressing takes it, likewise.
    cost: f64,
}

impl Default for Scales {
    fn default() -> Self {
        // zstd's level 1, until it has been measured here.
        Self { compression: Compression::default(), wait: 0.0, cost: 1.0 / 430e6 }
    }
}

/// What a chunk took. One that didn't shrink counts as not compressed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// Bytes of content.
    pub content: usize,
    /// Bytes that it was made into, and how long that took; `None` if it went as it is.
    pub compressing: Option<(usize, Duration)>,
    /// How long the lane had no room for it.
    pub waiting: Duration,
}

impl Tradeoff {
    pub fn set(&self, compression: Compression) {
        self.scales().compression = compression;
    }

    /// Whether the next chunk is to be compressed.
    pub fn pays(&self) -> bool {
        let scales = self.scales();
        scales.compression == Compression::Always || scales.wait > scales.cost
    }

    /// Takes notice of a chunk that was sent.
    pub fn sent(&self, took: Took) {
        let mut scales = self.scales();
        let each = |time: Duration| time.as_secs_f64() / took.content as f64;
        let waited = each(took.waiting);
        let wait = match took.compressing {
            None => waited,
            Some((payload, time)) => {
                approach(&mut scales.cost, each(time));
                // All that time the network was busy with payloads; with the whole content it would have been busy for
                // longer in proportion. If it had room at once, nothing is known of it.
                let kept = payload as f64 / took.content as f64;
                if waited > scales.cost * NO_WAIT { (waited + each(time)) / kept } else { 0.0 }
            }
        };
        approach(&mut scales.wait, wait);
    }

    fn scales(&self) -> MutexGuard<'_, Scales> {
        // What is changed one by one is whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn approach(average: &mut f64, value: f64) {
    *average += (value - *average) * NEWEST;
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 256 << 10;

    /// The share of chunks that are compressed on a link of so many bytes a second, by workers that halve a chunk in a
    /// millisecond each.
    fn share(link: f64, workers: f64) -> f64 {
        let (tradeoff, mut compressed) = (Tradeoff::default(), 0);
        for _ in 0..1000 {
            let (mut work, mut payload, mut compressing) = (0.2e-3, CHUNK, None);
            if tradeoff.pays() {
                compressed += 1;
                work += 1e-3;
                payload = CHUNK / 2;
                compressing = Some((payload, Duration::from_millis(1)));
            }
            // All others wait before the same lane.
            let waiting = Duration::from_secs_f64((workers * payload as f64 / link - work).max(0.0));
            tradeoff.sent(Took { content: CHUNK, compressing, waiting });
        }
        f64::from(compressed) / 1000.0
    }

    #[test]
    fn a_slow_link_is_spared_and_a_fast_one_is_filled() {
        assert!(share(12e6, 2.0) > 0.98, "100 Mbit/s");
        assert!(share(118e6, 2.0) > 0.98, "1 Gbit/s");
        assert!(share(3e9, 2.0) < 0.01, "25 Gbit/s, two cores");
        assert!(share(3e9, 64.0) > 0.98, "25 Gbit/s, 64 cores");
    }

    #[test]
    fn nothing_is_compressed_before_anything_was_waited_for() {
        let tradeoff = Tradeoff::default();
        assert!(!tradeoff.pays());
        tradeoff.set(Compression::Always);
        assert!(tradeoff.pays());
    }

    #[test]
    fn a_link_that_becomes_fast_is_noticed() {
        let tradeoff = Tradeoff::default();
        let compressing = Some((CHUNK / 2, Duration::from_millis(1)));
        let slow = Took { content: CHUNK, compressing, waiting: Duration::from_millis(2) };
        (0..100).for_each(|_| tradeoff.sent(slow));
        assert!(tradeoff.pays());
        (0..100).for_each(|_| tradeoff.sent(Took { waiting: Duration::ZERO, ..slow }));
        assert!(!tradeoff.pays());
    }
}

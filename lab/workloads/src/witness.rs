//! How a process proves to the outside that it went on as one.
//!
//! The process counts, and sends each number in datagrams to a collector that no migration touches. It keeps a number
//! until the collector has acknowledged it, sending it again as often as it takes, so a number that the collector never
//! got was lost with the process's memory and not on the wire.
//!
//! Every datagram is one *emission*, of which no process makes the same twice: it bears
//! - `start`: drawn when the program starts. A copy that was started anew instead of migrated has another one.
//! - `emission`: counts up with each datagram, also with one that repeats a number. It lies in memory, so a migrated
//!   copy goes on from where its original stood.
//! - `nonce`: drawn from the kernel for each datagram. It doesn't lie in memory, so two copies of one process draw
//!   different ones.
//!
//! **How a second copy shows:** the same (`start`, `emission`) arrives with two nonces. Only a process that exists twice,
//! or that was set back to an earlier moment after it had sent something, can bring that about; a datagram that the
//! network doubles has the same nonce, and one that the process repeats has another emission. Two copies alive at the
//! same time show it over and over, each further emission being a pair.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::Serialize;

/// One datagram: four numbers as decimal text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Emission {
    /// Which start of the program.
    pub start: u64,
    /// The how-manieth datagram since that start, from 1.
    pub emission: u64,
    /// Drawn for this datagram alone.
    pub nonce: u64,
    /// The number that is being told, from 1.
    pub sequence: u64,
}

impl std::fmt::Display for Emission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}", self.start, self.emission, self.nonce, self.sequence)
    }
}

/// A datagram or line that isn't one of ours.
#[derive(Debug)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a witness's line")
    }
}

impl std::error::Error for Malformed {}

impl From<ParseIntError> for Malformed {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for Emission {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let numbers = line.split_ascii_whitespace().map(u64::from_str).collect::<Result<Vec<_>, _>>()?;
        let [start, emission, nonce, sequence] = numbers[..] else { return Err(Malformed) };
        Ok(Self { start, emission, nonce, sequence })
    }
}

/// An emission as it came in: one line of the collector's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Microseconds of the collector's monotonic clock.
    pub at_us: u64,
    /// Where it came from.
    pub from: SocketAddr,
    /// What came.
    pub emission: Emission,
}

impl std::fmt::Display for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.at_us, self.from, self.emission)
    }
}

impl FromStr for Arrival {
    type Err = Malformed;

    fn from_str(line: &str) -> Result<Self, Malformed> {
        let mut fields = line.splitn(3, ' ');
        let mut field = || fields.next().ok_or(Malformed);
        let at_us = field()?.parse()?;
        let from = field()?.parse().map_err(|_| Malformed)?;
        Ok(Self { at_us, from, emission: field()?.parse()? })
    }
}

/// What a collector's file proves.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// One process, whole: nothing lost, nothing repeated, one start.
    pub ok: bool,
    /// The highest number that any start told.
    pub count: u64,
    /// Starts of the program seen: more than one means that a copy began anew.
    pub starts: usize,
    /// Pairs of starts that were alive at the same time.
    pub overlapping_starts: usize,
    /// Numbers below a start's highest that never arrived.
    pub lost: u64,
    /// Emissions that arrived with more than one nonce: made by two copies, or by one that was set back.
    pub repeated: u64,
    /// How often the other copy was heard again: 1 for a process that was set back, many for two that live at once.
    pub turns: u64,
    /// The longest time between two arrivals, in milliseconds.
    pub gap_ms: f64,
    /// Every source address, in the order in which they first came.
    pub addresses: Vec<SocketAddr>,
}

/// Judges the arrivals, which are in the order in which they came.
pub fn summarize(arrivals: &[Arrival]) -> Summary {
    let mut histories: BTreeMap<u64, History> = BTreeMap::new();
    let mut addresses = Vec::new();
    for arrival in arrivals {
        histories.entry(arrival.emission.start).or_default().add(arrival);
        if !addresses.contains(&arrival.from) {
            addresses.push(arrival.from);
        }
    }
    let histories: Vec<History> = histories.into_values().collect();
    let overlapping_starts = histories
        .iter()
        .enumerate()
        .flat_map(|(i, one)| histories[i + 1..].iter().map(move |other| (one, other)))
        .filter(|(one, other)| one.first_us <= other.last_us && other.first_us <= one.last_us)
        .count();
    let gap_us =
        arrivals.windows(2).map(|pair| pair[1].at_us.saturating_sub(pair[0].at_us)).max().unwrap_or(0);

    let lost = histories.iter().map(History::lost).sum();
    let repeated = histories.iter().map(History::repeated).sum();
    Summary {
        ok: histories.len() == 1 && lost == 0 && repeated == 0,
        count: histories.iter().map(History::count).max().unwrap_or(0),
        starts: histories.len(),
        overlapping_starts,
        lost,
        repeated,
        turns: histories.iter().map(|history| history.turns).sum(),
        gap_ms: gap_us as f64 / 1000.0,
        addresses,
    }
}

/// What is known of one start.
#[derive(Default)]
struct History {
    first_us: u64,
    last_us: u64,
    sequences: BTreeSet<u64>,
    nonces: BTreeMap<u64, BTreeSet<u64>>,
    last_emission: u64,
    turns: u64,
}

impl History {
    fn add(&mut self, arrival: &Arrival) {
        let Emission { emission, nonce, sequence, .. } = arrival.emission;
        if self.nonces.is_empty() {
            self.first_us = arrival.at_us;
        }
        self.last_us = arrival.at_us;
        let doubled_by_the_network = !self.nonces.entry(emission).or_default().insert(nonce);
        if doubled_by_the_network {
            return;
        }
        self.sequences.insert(sequence);
        if emission <= self.last_emission {
            self.turns += 1;
        }
        self.last_emission = emission;
    }

    fn count(&self) -> u64 {
        self.sequences.last().copied().unwrap_or(0)
    }

    fn lost(&self) -> u64 {
        self.count() - self.sequences.len() as u64
    }

    fn repeated(&self) -> u64 {
        self.nonces.values().filter(|nonces| nonces.len() > 1).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The arrivals of (start, emission, nonce, sequence), 10 ms apart.
    fn arrivals(emissions: &[(u64, u64, u64, u64)]) -> Vec<Arrival> {
        let arrival = |(at, &(start, emission, nonce, sequence)): (u64, &_)| Arrival {
            at_us: 10_000 * at,
            from: SocketAddr::from(([10, 0, 0, 2], 4000)),
            emission: Emission { start, emission, nonce, sequence },
        };
        (0..).zip(emissions).map(arrival).collect()
    }

    #[test]
    fn a_process_that_repeats_what_was_not_acknowledged_is_one() {
        let summary = summarize(&arrivals(&[(1, 1, 91, 1), (1, 2, 92, 1), (1, 4, 93, 2), (1, 5, 94, 3)]));
        assert!(summary.ok, "{summary:?}");
        assert_eq!((summary.count, summary.gap_ms), (3, 10.0));
    }

    #[test]
    fn what_the_network_doubles_is_no_second_copy() {
        assert!(summarize(&arrivals(&[(1, 1, 91, 1), (1, 2, 92, 2), (1, 1, 91, 1), (1, 3, 93, 3)])).ok);
    }

    #[test]
    fn two_copies_alive_at_once_show() {
        let both = [(1, 1, 91, 1), (1, 2, 92, 2), (1, 2, 55, 2), (1, 3, 93, 3), (1, 3, 56, 3)];
        let summary = summarize(&arrivals(&both));
        assert_eq!((summary.ok, summary.repeated, summary.turns), (false, 2, 2));
    }

    #[test]
    fn a_process_set_back_shows() {
        let summary = summarize(&arrivals(&[(1, 1, 91, 1), (1, 2, 92, 2), (1, 2, 55, 2), (1, 3, 56, 3)]));
        assert_eq!((summary.ok, summary.repeated, summary.turns), (false, 1, 1));
    }

    #[test]
    fn a_lost_number_shows() {
        let summary = summarize(&arrivals(&[(1, 1, 91, 1), (1, 2, 92, 3)]));
        assert_eq!((summary.ok, summary.lost), (false, 1));
    }

    #[test]
    fn a_fresh_start_shows_and_says_whether_both_lived() {
        let after = summarize(&arrivals(&[(1, 1, 91, 1), (2, 1, 92, 1)]));
        assert_eq!((after.ok, after.starts, after.overlapping_starts), (false, 2, 0));
        let beside = summarize(&arrivals(&[(1, 1, 91, 1), (2, 1, 92, 1), (1, 2, 93, 2)]));
        assert_eq!((beside.ok, beside.starts, beside.overlapping_starts), (false, 2, 1));
    }

    #[test]
    fn nothing_at_all_proves_nothing() {
        assert!(!summarize(&[]).ok);
    }

    proptest! {
        #[test]
        fn lines_come_back_as_they_were(at_us: u64, ip: [u8; 4], port: u16, n: [u64; 4]) {
            let emission = Emission { start: n[0], emission: n[1], nonce: n[2], sequence: n[3] };
            let arrival = Arrival { at_us, from: (ip, port).into(), emission };
            prop_assert_eq!(arrival.to_string().parse::<Arrival>().unwrap(), arrival);
        }

        #[test]
        fn any_line_is_read_or_refused(line in ".{0,60}") {
            let _ = line.parse::<Arrival>();
        }
    }
}

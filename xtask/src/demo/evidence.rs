//! What the counter's own output says of its move: every number once, and how long none came.

use std::collections::HashSet;
use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use transship_lab::Node;

/// One line that the counter has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    number: u64,
    /// By the wall clock.
    at_ms: i64,
}

/// The counts of both nodes, held against each other.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Numbers that came on neither node, between the first and the last.
    lost: u64,
    /// Numbers that came more than once.
    repeated: u64,
    /// From the last number on the source to the first on the target.
    gap_ms: i64,
    #[serde(skip)]
    last_on_source: u64,
    #[serde(skip)]
    first_on_target: u64,
}

impl Evidence {
    pub fn of(source: &[Count], target: &[Count]) -> Result<Self> {
        let last = source.last().context("the counter has written nothing on the source")?;
        let first = target.first().context("the counter has written nothing on the target")?;
        let all: Vec<u64> = source.iter().chain(target).map(|count| count.number).collect();
        let different: HashSet<u64> = all.iter().copied().collect();
        let lowest = different.iter().min().copied().unwrap_or_default();
        let highest = different.iter().max().copied().unwrap_or_default();
        Ok(Evidence {
            lost: highest - lowest + 1 - different.len() as u64,
            repeated: (all.len() - different.len()) as u64,
            gap_ms: first.at_ms - last.at_ms,
            last_on_source: last.number,
            first_on_target: first.number,
        })
    }

    /// Of one list that was carried along: what was counted before and after the longest pause.
    pub fn of_one(counts: &[Count]) -> Result<Self> {
        let pauses = counts.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms);
        let (longest, _) =
            pauses.enumerate().max_by_key(|(_, pause)| *pause).context("no two counts are there")?;
        let (before, after) = counts.split_at(longest + 1);
        Self::of(before, after)
    }

    /// Nothing lost, nothing twice.
    pub fn is_seamless(&self) -> bool {
        self.lost == 0 && self.repeated == 0
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "last number on a: {}, first on b: {}, {} ms later · {} lost, {} twice",
            self.last_on_source, self.first_on_target, self.gap_ms, self.lost, self.repeated
        )
    }
}

/// What the containers of a node have written, by the runtime's logs.
pub fn counts(node: &Node) -> Result<Vec<Count>> {
    let folder = node.path("/var/log/pods")?;
    let mut counts = vec![];
    for pod in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let log = pod?.path().join("main/0.log");
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        counts.extend(text.lines().filter_map(logged));
    }
    Ok(counts)
}

/// A line of a CRI log, `TIME stdout F NUMBER MONOTONIC_MS REALTIME_MS`.
fn logged(line: &str) -> Option<Count> {
    let mut words = line.splitn(4, ' ').skip(1);
    (words.next()? == "stdout").then(|| count(words.nth(1)?))?
}

/// A line that the counter writes, `NUMBER MONOTONIC_MS REALTIME_MS`.
pub fn count(line: &str) -> Option<Count> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    Some(Count { number, at_ms: words.nth(1)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(numbers: impl IntoIterator<Item = u64>) -> Vec<Count> {
        numbers.into_iter().map(|number| Count { number, at_ms: number as i64 * 10 }).collect()
    }

    #[test]
    fn a_line_of_the_log_is_read() {
        let line = "2026-11-25T04:16:06.461529405Z stdout F 165 2887309 1795580166461";
        assert_eq!(logged(line), Some(Count { number: 165, at_ms: 1_795_580_166_461 }));
        assert_eq!(logged("2026-11-25T04:16:06.4Z stderr F 165 2887309 1795580166461"), None);
    }

    #[test]
    fn a_seamless_move_has_each_number_once() {
        let evidence = Evidence::of(&counts(1..=57), &counts(58..80)).unwrap();
        assert!(evidence.is_seamless());
        assert_eq!((evidence.last_on_source, evidence.first_on_target, evidence.gap_ms), (57, 58, 10));
    }

    #[test]
    fn a_list_that_was_carried_along_is_split_at_its_longest_pause() {
        let mut both = counts(1..=57);
        both.extend((58..80).map(|number| Count { number, at_ms: number as i64 * 10 + 300 }));
        let evidence = Evidence::of_one(&both).unwrap();
        assert!(evidence.is_seamless());
        assert_eq!((evidence.last_on_source, evidence.first_on_target, evidence.gap_ms), (57, 58, 310));
        assert_eq!(count("165 2887309 1795580166461"), Some(Count { number: 165, at_ms: 1_795_580_166_461 }));
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_seen() {
        let evidence = Evidence::of(&counts(1..=57), &counts(60..80)).unwrap();
        assert_eq!((evidence.lost, evidence.repeated), (2, 0));
        let evidence = Evidence::of(&counts(1..=57), &counts(55..80)).unwrap();
        assert_eq!((evidence.lost, evidence.repeated), (0, 3));
        assert!(!evidence.is_seamless());
        assert!(Evidence::of(&counts(1..=57), &[]).is_err());
    }
}

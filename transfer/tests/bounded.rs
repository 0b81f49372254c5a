//! What a hostile sender can make a receiver remember. A test binary of its own: it measures its whole process.

#![allow(clippy::unwrap_used)] // What fails in a helper fails its test.

mod common;

use std::fs;

use common::hostile::{CHUNK, Hostile, announce, zeros};
use transship_transfer::Limits;
use transship_transfer::core::close::CloseCode;

/// A value of /proc/self/status, in bytes.
fn resident(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().unwrap() << 10
}

/// How much the process grows at most while `peer` does its worst, which the receiver ends with `TooMuch`. The peer's own
/// side counts too, and holds little.
async fn growth(limits: Limits, worst: impl AsyncFnOnce(&mut Hostile)) -> u64 {
    let mut peer = Hostile::new(limits).await;
    // Resets the peak to what is resident now (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident("VmRSS");
    worst(&mut peer).await;
    peer.ends_with(CloseCode::TooMuch).await;
    resident("VmHWM") - before
}

#[tokio::test]
async fn a_connection_takes_less_than_sixteen_mebibytes_whatever_the_sender_does() {
    let limits = Limits::default();

    let paths = growth(limits.clone(), async |peer| {
        let deep = format!("{}/{}", "d".repeat(250), "e".repeat(250));
        for entry in 0..=limits.max_entries {
            peer.say(announce(entry, &format!("{deep}/{entry}"))).await;
        }
    });
    let paths = paths.await;
    assert!(paths < 16 << 20, "entries: {paths} bytes");

    let chunks = (limits.max_bytes / u64::from(CHUNK)) as u32;
    let zeros = growth(limits.clone(), async |peer| {
        peer.say(announce(0, "endless")).await;
        for index in 0..=chunks {
            peer.say(zeros(index, CHUNK)).await;
        }
    });
    let zeros = zeros.await;
    assert!(zeros < 16 << 20, "endless zeros: {zeros} bytes");
}

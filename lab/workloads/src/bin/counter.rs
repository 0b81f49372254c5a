//! Counts: in memory, in a file of its root file system, on stdout, and tells the count over TCP.
//!
//! Requests: `get` answers the count; `check` looks at all pages and at the whole file and answers `ok count=N`, or
//! what is wrong.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use transship_workloads::pages::Memory;
use transship_workloads::{server, signals};

/// Counts in memory and in a file, and answers `get` and `check` over TCP.
#[derive(Parser)]
struct Options {
    /// Memory to hold, in MiB; each page half noise, half zero.
    #[arg(long, default_value_t = 64)]
    mib: usize,
    /// TCP port to answer on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// File to append each count to; made anew at the start.
    #[arg(long, default_value = "/data/count")]
    file: PathBuf,
    /// Time between two counts.
    #[arg(long, default_value_t = 100)]
    interval_ms: u64,
}

struct Counter {
    count: u64,
    memory: Memory,
    file: File,
    path: PathBuf,
}

impl Counter {
    /// Appends `COUNT MONOTONIC_MS REALTIME_MS` to the file and to stdout.
    fn step(&mut self) -> Result<()> {
        self.count += 1;
        let line = format!("{} {} {}\n", self.count, ms(ClockId::Monotonic), ms(ClockId::Realtime));
        self.file.write_all(line.as_bytes()).with_context(|| format!("append to {}", self.path.display()))?;
        io::stdout().write_all(line.as_bytes()).context("write to stdout")
    }

    fn check(&self) -> String {
        let bad = self.memory.bad();
        if bad > 0 {
            return format!("bad pages {bad} of {}", self.memory.len());
        }
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => return format!("bad file {}: {error}", self.path.display()),
        };
        let mut expected = 0;
        for line in text.lines() {
            expected += 1;
            if line.split(' ').next() != Some(expected.to_string().as_str()) {
                return format!("bad file: line {expected} is {line:?}");
            }
        }
        if expected != self.count {
            return format!("bad file: {expected} lines, count is {}", self.count);
        }
        format!("ok count={}", self.count)
    }
}

fn ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

fn main() -> Result<()> {
    signals::die_on_request()?;
    let Options { mib, port, file: path, interval_ms } = Options::parse();
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let counter = Arc::new(Mutex::new(Counter { count: 0, memory: Memory::new(mib), file, path }));

    let asked = Arc::clone(&counter);
    server::serve(port, move |request| {
        let counter = asked.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            "get" => counter.count.to_string(),
            "check" => counter.check(),
            other => format!("unknown request {other:?}: get, check"),
        }
    })
    .with_context(|| format!("listen on port {port}"))?;

    loop {
        thread::sleep(Duration::from_millis(interval_ms));
        counter.lock().unwrap_or_else(PoisonError::into_inner).step()?;
    }
}

//! Dirties memory at a steady rate and knows what each page ought to hold.
//!
//! Each page is checked before it is written, and a page found bad stays as it is. SIGUSR1 and the request `check`
//! look at all of them and say `bad N of M`; the request `get` answers how many pages were written so far.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use signal_hook::consts::SIGUSR1;
use transship_workloads::pages::{Memory, PAGE};
use transship_workloads::{server, signals};

/// Dirties pages at a rate and checks them all on SIGUSR1 or a TCP `check`.
#[derive(Parser)]
struct Options {
    /// Memory to hold, in MiB.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    mib: u32,
    /// How much of it to write each second, in MiB.
    #[arg(long, default_value_t = 200)]
    mib_per_s: u64,
    /// TCP port to answer on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

const TICK: Duration = Duration::from_millis(1);
/// After a freeze the writer goes on at its rate; it doesn't make good for what it missed.
const LONGEST_STEP: Duration = Duration::from_millis(20);

struct Dirty {
    memory: Memory,
    writes: u64,
    /// xorshift64: which page comes next.
    random: u64,
}

impl Dirty {
    fn step(&mut self, pages: u64) {
        for _ in 0..pages {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.memory.touch((self.random % self.memory.len() as u64) as usize);
            self.writes += 1;
        }
    }

    fn check(&self) -> String {
        format!("bad {} of {}", self.memory.bad(), self.memory.len())
    }
}

fn main() -> Result<()> {
    signals::die_on_request()?;
    let asked_by_signal = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, Arc::clone(&asked_by_signal))?;
    let Options { mib, mib_per_s, port } = Options::parse();
    let memory = Memory::new(mib as usize);
    let dirty = Arc::new(Mutex::new(Dirty { memory, writes: 0, random: 0x2545_f491_4f6c_dd1d }));

    let asked = Arc::clone(&dirty);
    server::serve(port, move |request| {
        let dirty = asked.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            "get" => dirty.writes.to_string(),
            "check" => dirty.check(),
            other => format!("unknown request {other:?}: get, check"),
        }
    })
    .with_context(|| format!("listen on port {port}"))?;

    let pages_per_s = ((mib_per_s << 20) / PAGE as u64) as f64;
    let mut owed = 0.0;
    let mut last = Instant::now();
    loop {
        thread::sleep(TICK);
        owed += last.elapsed().min(LONGEST_STEP).as_secs_f64() * pages_per_s;
        last = Instant::now();
        let mut dirty = dirty.lock().unwrap_or_else(PoisonError::into_inner);
        dirty.step(owed as u64);
        owed = owed.fract();
        if asked_by_signal.swap(false, Ordering::Relaxed) {
            writeln!(io::stdout(), "{}", dirty.check()).context("write to stdout")?;
        }
    }
}

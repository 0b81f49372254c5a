//! Two processes for two containers of one Pod, each of which knows what the other must know: a copy of one that is of
//! another moment than the other's shows.
//!
//! The teller tells one number after the other over the Pod's loopback, and keeps each until the keeper has said it back;
//! a connection that breaks is made anew. The keeper takes what comes after its last number, or that one again, since its
//! answer may have been lost. Both count along in a file of the Pod's shared memory that both map: the teller what was said
//! back, the keeper what it took. When a number comes that is new, both counts must stand at the one before.
//!
//! The keeper's requests: `get` answers its last number; `check` answers `ok`, or what was wrong first; `tell N` is the
//! teller's.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use transship_workloads::counters::Counters;
use transship_workloads::{server, signals};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Takes numbers.
    Keeper,
    /// Tells them.
    Teller,
}

/// Takes or tells numbers that no copy of another moment could take or tell.
#[derive(Parser)]
struct Options {
    /// Which of the two this is.
    #[arg(long, value_enum)]
    role: Role,
    /// The file that both map; the keeper makes it.
    #[arg(long, default_value = "/dev/shm/pair")]
    file: PathBuf,
    /// TCP port that the keeper answers on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Time between two numbers.
    #[arg(long, default_value_t = 5)]
    interval_ms: u64,
    /// How many numbers are told over one connection.
    #[arg(long, default_value_t = 10)]
    per_connection: usize,
}

/// The counters in the file.
const SAID_BACK: usize = 0;
const TAKEN: usize = 1;

struct Keeper {
    last: u64,
    counters: Counters,
    wrong: Option<String>,
}

impl Keeper {
    fn take(&mut self, number: u64) -> String {
        let counts = self.counters.read();
        let expected = self.last + 1;
        if number == expected {
            if counts != [self.last, self.last] {
                self.wrong.get_or_insert(format!("at {number} the counts in shared memory are {counts:?}"));
            }
            self.last = number;
            self.counters.increment(TAKEN);
        } else if number != self.last {
            self.wrong.get_or_insert(format!("{number} was told where {expected} was due"));
        }
        number.to_string()
    }

    fn answer(&mut self, request: &str) -> String {
        match request.split_once(' ') {
            Some(("tell", number)) => match number.parse() {
                Ok(number) => self.take(number),
                Err(error) => format!("{number:?}: {error}"),
            },
            None if request == "get" => self.last.to_string(),
            None if request == "check" => self.wrong.clone().unwrap_or_else(|| "ok".to_owned()),
            _ => format!("unknown request {request:?}: get, check, tell N"),
        }
    }
}

fn main() -> Result<()> {
    signals::die_on_request()?;
    let options = Options::parse();
    match options.role {
        Role::Keeper => keep(&options),
        Role::Teller => tell(&options),
    }
}

fn keep(options: &Options) -> Result<()> {
    let fresh = options.file.with_extension("fresh");
    let making = || format!("make {}", options.file.display());
    Counters::create(&fresh, 2).with_context(making)?;
    std::fs::rename(&fresh, &options.file).with_context(making)?;
    let counters = Counters::map(&options.file).with_context(making)?;
    let keeper = Mutex::new(Keeper { last: 0, counters, wrong: None });
    let answer = move |request: &str| keeper.lock().unwrap_or_else(PoisonError::into_inner).answer(request);
    server::serve(options.port, answer).with_context(|| format!("listen on port {}", options.port))?;
    loop {
        thread::park();
    }
}

fn tell(options: &Options) -> Result<()> {
    let interval = Duration::from_millis(options.interval_ms);
    while !options.file.exists() {
        thread::sleep(interval);
    }
    let counters = Counters::map(&options.file).with_context(|| format!("map {}", options.file.display()))?;
    let mut number = 1;
    loop {
        // Whatever breaks, the number that wasn't said back is told again.
        if let Err(error) = converse(options, &counters, &mut number) {
            eprintln!("{number} is told again: {error}");
            thread::sleep(interval);
        }
    }
}

/// Tells some numbers over one connection.
fn converse(options: &Options, counters: &Counters, number: &mut u64) -> io::Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, options.port))?;
    let mut answers = BufReader::new(&stream);
    for _ in 0..options.per_connection {
        (&stream).write_all(format!("tell {number}\n").as_bytes())?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        if answer.trim() != number.to_string() {
            return Err(io::Error::other(format!("{answer:?} was said back")));
        }
        counters.increment(SAID_BACK);
        *number += 1;
        thread::sleep(Duration::from_millis(options.interval_ms));
    }
    Ok(())
}

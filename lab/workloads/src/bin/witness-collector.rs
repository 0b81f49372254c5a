//! Hears witnesses out, outside of all that migrates, and judges what they said.
//!
//! A number is acknowledged after its arrival has been written to the file, one line each:
//! `MICROSECONDS ADDRESS START EMISSION NONCE SEQUENCE`.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use transship_workloads::signals;
use transship_workloads::witness::{Arrival, Emission, summarize};

/// Records what witnesses send, or judges a record.
#[derive(Parser)]
struct Options {
    /// Address to listen on.
    #[arg(long, requires = "out", required_unless_present = "verify")]
    listen: Option<SocketAddr>,
    /// File to record arrivals in; made anew at the start.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Judge this record: a JSON summary on stdout; exit code 0 if one process, whole, was heard, else 1.
    #[arg(long, conflicts_with_all = ["listen", "out"])]
    verify: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let Options { listen, out, verify: record } = Options::parse();
    match (listen, out, record) {
        (Some(listen), Some(out), _) => collect(listen, &out),
        (_, _, Some(record)) => verify(&record),
        _ => anyhow::bail!("give --listen and --out, or --verify"),
    }
}

fn collect(listen: SocketAddr, out: &Path) -> Result<ExitCode> {
    signals::die_on_request()?;
    let mut record = File::create(out).with_context(|| format!("make {}", out.display()))?;
    let socket = UdpSocket::bind(listen).with_context(|| format!("listen on {listen}"))?;
    println!("listening on {}", socket.local_addr()?);
    let mut buffer = [0; 256];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).context("receive")?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let emission: Emission = match text.parse() {
            Ok(emission) => emission,
            Err(malformed) => {
                eprintln!("{from}: {malformed}: {text:?}");
                continue;
            }
        };
        let now = clock_gettime(ClockId::Monotonic);
        let at_us = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
        record
            .write_all(format!("{}\n", Arrival { at_us, from, emission }).as_bytes())
            .with_context(|| format!("write to {}", out.display()))?;
        // An acknowledgement that can't be sent is as good as one that is lost: the number comes again.
        let acknowledgement = format!("{} {}", emission.start, emission.sequence);
        if let Err(error) = socket.send_to(acknowledgement.as_bytes(), from) {
            eprintln!("{from}: {error}");
        }
    }
}

fn verify(path: &Path) -> Result<ExitCode> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    // A last line without its end is still being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let arrivals = whole
        .lines()
        .map(|line| line.parse().with_context(|| format!("{}: {line:?}", path.display())))
        .collect::<Result<Vec<Arrival>>>()?;
    let summary = summarize(&arrivals);
    println!("{}", serde_json::to_string(&summary)?);
    Ok(if summary.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

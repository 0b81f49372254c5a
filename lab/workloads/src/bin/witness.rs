//! Tells its numbers to a collector outside; `transship_workloads::witness` says what that proves.
//!
//! The socket is never connected, so that it outlives a change of address, and nothing that sending or receiving
//! reports ends the program: what the network swallows is sent again.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::rand::{GetRandomFlags, getrandom};
use transship_workloads::signals;
use transship_workloads::witness::Emission;

/// Sends its sequence of numbers to a collector, each until it is acknowledged.
#[derive(Parser)]
struct Options {
    /// The collector's address.
    #[arg(long)]
    to: SocketAddr,
    /// Time between two numbers, and before a number is sent again.
    #[arg(long, default_value_t = 10)]
    interval_ms: u64,
}

fn main() -> Result<()> {
    signals::die_on_request()?;
    let Options { to, interval_ms } = Options::parse();
    let interval = Duration::from_millis(interval_ms.max(1));
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).context("open a UDP socket")?;
    socket.set_read_timeout(Some(interval))?;

    let start = random()?;
    writeln!(io::stdout(), "start {start}").context("write to stdout")?;
    let mut emission = 0;
    for sequence in 1.. {
        loop {
            emission += 1;
            let told = Emission { start, emission, nonce: random()?, sequence };
            // No route, no address, no buffer: all pass, and the number is told again.
            let sent = socket.send_to(told.to_string().as_bytes(), to);
            if sent.is_ok() && acknowledged(&socket, start, sequence) {
                break;
            }
            if sent.is_err() {
                thread::sleep(interval);
            }
        }
        thread::sleep(interval);
    }
    Ok(())
}

/// Waits for `start sequence` from the collector, for at most the socket's time-out after each stray datagram.
fn acknowledged(socket: &UdpSocket, start: u64, sequence: u64) -> bool {
    let mut buffer = [0; 64];
    let awaited = format!("{start} {sequence}");
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        if &buffer[..length] == awaited.as_bytes() {
            return true;
        }
    }
    false
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    // Up to 256 bytes come whole or not at all: getrandom(2).
    getrandom(&mut bytes, GetRandomFlags::empty()).context("ask the kernel for random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

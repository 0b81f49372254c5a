//! A client's steady requests to a workload, and what came of them.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{LabError, Result};
use crate::machine::Machine;
use crate::wait;

/// How long an answer may take before its request has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of a client's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// All that were sent.
    pub sent: u64,
    /// Those that weren't answered: refused, reset, or not within two seconds.
    pub failed: u64,
    /// The longest time from one answer to the next, in milliseconds.
    pub longest_gap_ms: u64,
    /// Answers that were lower than one before: of a workload that has forgotten something.
    pub went_back: u64,
    /// Requests that have failed since the last that was answered.
    pub failed_last: u64,
}

impl Requests {
    fn saw(&mut self, answer: io::Result<u64>, gap: Duration, highest: u64) {
        self.sent += 1;
        match answer {
            Err(_) => {
                self.failed += 1;
                self.failed_last += 1;
            }
            Ok(count) => {
                self.failed_last = 0;
                self.went_back += u64::from(count < highest);
                let gap = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                self.longest_gap_ms = self.longest_gap_ms.max(gap);
            }
        }
    }
}

/// A client that asks a counter for its count, each time by a connection of its own, one after the other.
#[derive(Debug)]
pub struct Load {
    seen: Arc<Mutex<Requests>>,
    stop: Sender<()>,
    client: JoinHandle<Result<()>>,
}

impl Load {
    /// Waits for a first answer, then asks from that machine, with a pause between an answer and the next request.
    pub fn start(from: &Machine, counter: SocketAddr, pause: Duration) -> Result<Self> {
        wait::until(&format!("an answer of {counter}"), Duration::from_secs(30), || {
            // A Service refuses until its endpoints are known everywhere.
            Ok(from.in_network(|| ask(counter))?.ok())
        })?;
        let (stop, stopped) = mpsc::channel();
        let seen = Arc::new(Mutex::new(Requests::default()));
        let (from, ours) = (from.clone(), Arc::clone(&seen));
        let client = thread::spawn(move || {
            from.in_network(move || {
                let (mut last, mut highest) = (Instant::now(), 0);
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let answer = ask(counter);
                    let count = answer.as_ref().ok().copied();
                    held(&ours).saw(answer, last.elapsed(), highest);
                    if let Some(count) = count {
                        last = Instant::now();
                        highest = highest.max(count);
                    }
                }
            })
        });
        Ok(Load { seen, stop, client })
    }

    /// What has come of it so far.
    pub fn so_far(&self) -> Requests {
        held(&self.seen).clone()
    }

    /// Stops it and says what came of it.
    pub fn finish(self) -> Result<Requests> {
        drop(self.stop);
        let ended = self.client.join();
        ended.unwrap_or_else(|_| Err(LabError::Broken("the client's thread has panicked".into())))?;
        Ok(held(&self.seen).clone())
    }
}

/// What is counted is whole between two requests, whatever happens to a thread.
fn held(requests: &Mutex<Requests>) -> MutexGuard<'_, Requests> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(counter: SocketAddr) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&counter, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"get\n")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    answer.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_with_an_answer_and_a_lower_count_is_seen() {
        let mut requests = Requests::default();
        let ms = Duration::from_millis;
        requests.saw(Ok(5), ms(10), 0);
        requests.saw(Err(io::ErrorKind::ConnectionRefused.into()), ms(700), 5);
        requests.saw(Err(io::ErrorKind::TimedOut.into()), ms(900), 5);
        assert_eq!((requests.longest_gap_ms, requests.failed_last), (10, 2));
        requests.saw(Ok(1), ms(950), 5);
        let expected = Requests { sent: 4, failed: 2, longest_gap_ms: 950, went_back: 1, failed_last: 0 };
        assert_eq!(requests, expected);
    }
}

//! Faults that the real thing won't produce when a test needs them. Without the feature `faults` there are none.
//!
//! Asked for by the environment variable `TRANSSHIP_FAULTS`, a list separated by commas:
//! `die@POINT` (the agent kills itself there), `hold@POINT` (it stops there until the file `hold-POINT` in its run
//! folder is removed), `flip@N` and `cut@N` (see the transfer's own), `capacity@BYTES` (the target's room).

use bytes::Bytes;
use transship_transfer::{Connection, Endpoint, SendError, Sender};

/// A named point of a migration, such as `source:freeze`.
#[cfg(not(feature = "faults"))]
pub fn at(_point: &str) {}

/// Opens the transfer.
#[cfg(not(feature = "faults"))]
pub async fn open_sender(_: &Endpoint, connection: Connection, ticket: Bytes) -> Result<Sender, SendError> {
    Sender::open(connection, ticket).await
}

/// The room for a migration's state.
#[cfg(not(feature = "faults"))]
pub fn capacity(asked: u64) -> u64 {
    asked
}

#[cfg(feature = "faults")]
pub use injected::{at, capacity, open_sender};

#[cfg(feature = "faults")]
mod injected {
    use std::path::Path;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};
    use transship_transfer::faults::Faults;

    use super::{Bytes, Connection, Endpoint, SendError, Sender};

    fn asked(kind: &str) -> Option<String> {
        let list = std::env::var("TRANSSHIP_FAULTS").unwrap_or_default();
        list.split(',').find_map(|fault| fault.strip_prefix(kind)?.strip_prefix('@').map(str::to_owned))
    }

    pub fn at(point: &str) {
        if asked("die").is_some_and(|at| at == point) {
            tracing::warn!(point, "dies here, as was asked for");
            if let Err(errno) = kill_process(getpid(), Signal::KILL) {
                tracing::error!(%errno, "could not die");
            }
        }
        if asked("hold").is_some_and(|at| at == point) {
            let file = std::env::var("TRANSSHIP_FAULT_FILE").unwrap_or_else(|_| "/run/transship/hold".into());
            tracing::warn!(point, file, "holds here, as was asked for");
            if std::fs::write(&file, point).is_ok() {
                while Path::new(&file).exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    pub async fn open_sender(
        endpoint: &Endpoint,
        connection: Connection,
        ticket: Bytes,
    ) -> Result<Sender, SendError> {
        let number = |kind| asked(kind).and_then(|number| number.parse().ok());
        let faults = Faults { flip_bit_in_chunk: number("flip"), cut_before_chunk: number("cut") };
        Sender::open_with_faults(connection, ticket, faults, endpoint).await
    }

    pub fn capacity(bytes: u64) -> u64 {
        asked("capacity").and_then(|number| number.parse().ok()).unwrap_or(bytes)
    }
}

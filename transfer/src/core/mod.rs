//! The protocol without its surroundings: no socket, no file, no clock, no randomness.
//!
//! Everything that decides lives here and is a function from values to values. The two ends are [`send::SendSession`]
//! and [`receive::ReceiveSession`]; what passes between them are the [`frame`]s. `tests/simulation.rs` runs both ends
//! against each other and cuts the line wherever it likes.

pub mod bytes;
pub mod chunk;
pub mod close;
pub mod frame;
pub mod held;
pub mod limits;
pub mod path;
pub mod receive;
pub mod send;
pub mod tree;

/// The application protocol that both ends name in the TLS handshake (ALPN, RFC 7301).
pub const ALPN: &[u8] = b"transship/1";

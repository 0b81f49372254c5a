//! Moves a tree of hashed chunks from here to there over QUIC.
//!
//! The sender cuts files into chunks, hashes them and seals all of it under one root; the receiver verifies every
//! chunk before it places it, and the whole tree before it hands it out as a [`VerifiedTree`]. It knows nothing of
//! what the files are for.
//!
//! ```text
//! Identity ── Endpoint ─┬─ connect ── Sender::open ── file, follow ── seal ─────────────> Sealed
//!                       └─ listen ─── Listener::accept ── Incoming::accept ── Receiving ─> VerifiedTree
//! ```
//!
//! A connection carries one transfer. It ends by closing the connection with a number that says why
//! ([`CloseCode`](core::close::CloseCode)), and dropping either end's handle cancels it. Both ends are authenticated by
//! certificates; a ticket, opaque here, says what the transfer is for.

pub mod core;
#[cfg(feature = "faults")]
pub mod faults;
pub mod identity;
mod pool;
pub mod quic;
pub mod receive;
pub mod send;
mod store;

pub use blake3::Hash;

pub use crate::core::bytes::TransferBytes;
pub use crate::core::limits::Limits;
pub use crate::core::path::TreePath;
pub use crate::core::tree::{Entry, EntryKind};
pub use crate::identity::{Identity, IdentityPaths, Peer};
pub use crate::quic::{Connection, Endpoint, Settings};
pub use crate::receive::{Failed, Incoming, Listener, Partial, ReceiveError, Receiving, VerifiedTree};
pub use crate::send::{Compression, Follow, Sealed, SendError, Sender};
pub use crate::store::StoreError;

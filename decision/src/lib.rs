//! Who owns the container.
//!
//! A migration is decided by one durable record on the source node, `released` or `kept`; everything else
//! can be lost. This crate holds that record and all that reasons about it:
//!
//! ```text
//!   source agent                    watchdog                    target agent            wrapper
//!   ------------                    --------                    ------------            -------
//!   Source: next() / finished()     Watchdog: next()            Target: on / next()     admission()
//!        |                              |                            |                      |
//!        |  StateDir::decide(released)  |  StateDir::decide(kept)    |  the record, carried |  fences/UID
//!        +-------------+----------------+                            |                      |  record
//!                      v                                             v                      v
//!            migrations/ID/record  (made by link(2): the first wins, for ever)
//! ```
//!
//! [`Source`], [`Target`] and [`Watchdog`] are pure: no I/O, no clock, no randomness. The agent's loops and
//! `tests/simulation.rs` run the same code. [`StateDir`] is the only part that touches a disk, and does so
//! through [`Files`], so that the simulation runs the record's rules over a model of a disk too.

mod decide;
mod failure;
mod files;
mod ids;
mod layout;
mod lock;
mod marker;
mod migrations;
mod record;
mod settings;
pub mod source;
pub mod target;
pub mod watchdog;
pub mod wire;

pub use decide::{DecideError, Staged};
pub use failure::Failure;
pub use files::{Disk, Files, Linked};
pub use ids::{ContainerId, InvalidId, InvalidRoot, MigrationId, PodUid, Root};
pub use layout::{RunDir, StateDir};
pub use lock::{Lock, LockError};
pub use marker::{Admission, Marker, MarkerError};
pub use migrations::MigrationsError;
pub use record::{By, MalformedRecord, Record, SignedRecord, UnixMillis, Verdict};
pub use settings::{SettingsError, WrapperSettings};
pub use source::Source;
pub use target::Target;
pub use watchdog::Watchdog;

//! A migration at the node that it comes to.
//!
//! ```text
//! check -> prepare (marker, sandbox, `create` that waits) -> receive (sealed, verified) -> restore (assemble, hold,
//! read back) -> the source's record -> go
//! ```
//!
//! Where a kubelet makes the Pod, `prepare` only raises the marker, and `AwaitWaiting` tells that the kubelet has come.
//!
//! What comes from outside (a wrapper, a sealed tree, a record) is told to the machine of `transship-decision`;
//! [`drive`] does what the machine wants done.

mod arrival;
mod assemble;
mod check;
mod decision;
mod discard;
mod drive;
mod hold;
mod prepare;
mod receive;
mod recover;
mod restore_watch;
mod wrapper;

pub use arrival::{Arrival, Arrivals};
pub use check::check;
pub use decision::{await_held, await_waiting, decide, settle, state, tell_source};
pub use prepare::prepare;
pub use receive::receive;
pub use recover::recover;
pub use wrapper::serve;

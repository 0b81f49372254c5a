//! The calls: who may make them, and what answers.

mod dial;
mod listen;
mod local;
mod source;
mod target;

pub use dial::{Dialled, dial, explain};
pub use listen::{caller, listen};
pub use local::LocalService;
pub use source::SourceService;
pub use target::TargetService;

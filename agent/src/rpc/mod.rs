//! The calls: who may make them, and what answers.

mod listen;
mod local;
mod pods;
mod source;
mod target;

pub use listen::{caller, listen};
pub use local::LocalService;
pub use pods::PodsService;
pub use source::SourceService;
pub use target::TargetService;

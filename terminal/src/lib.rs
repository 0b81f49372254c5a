//! What transship's command lines have in common: what the shell is told, and results as people read them.

mod exit;
mod migrated;
pub mod units;

pub use exit::Exit;
pub use migrated::Migrated;

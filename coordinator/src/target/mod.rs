//! The Pod that the source becomes: made from it, compared with what the API server admitted, given to its owner.
//!
//! Pods go in and Pods come out; nothing here talks to anybody.

mod build;
mod compare;
mod name;
mod owner;
mod refuse;

pub use build::{Mark, build};
pub use compare::{Difference, differences};
pub use name::name;
pub use owner::{Owner, adoption, is_adopted, release};
pub use refuse::refusal;
use transship_proto::Fault;

/// Why something is refused or has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Refusal {
    /// CamelCase and stable.
    pub reason: String,
    /// What happened, to what, and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal of that reason.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::new(fault.reason.as_ref(), fault.message)
    }
}

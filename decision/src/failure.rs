use serde::{Deserialize, Serialize};

/// Why a migration ended other than it was meant to: a stable reason and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A CamelCase word that programs may match on, as Kubernetes' conditions have it: `FreezeTimedOut`.
    pub reason: String,
    /// What happened, to what, and what to do about it.
    pub message: String,
}

impl Failure {
    /// A failure with its `reason` (CamelCase, stable) and `message` (for a person).
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Failure {}

//! What a check found.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Migrations work, but not all of them, or not as well as they could.
    Warn,
    /// Migrations don't work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in two or three words that don't change.
    pub name: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do about it; always there unless the status is [`Status::Ok`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), mend: None }
    }

    pub(super) fn warn(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, detail: detail.into(), mend: Some(mend.into()) }
    }

    pub(super) fn fail(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, detail: detail.into(), mend: Some(mend.into()) }
    }
}

use std::fmt;

use crate::units::{bytes, span};

/// The one line that says how a migration went, if it went well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Migrated<'a> {
    /// The container or the Pod.
    pub what: &'a str,
    /// The node that it has left.
    pub source: &'a str,
    /// The node that it has come to.
    pub target: &'a str,
    /// How long it stood still, in milliseconds.
    pub freeze_ms: f64,
    /// The size of its state, in bytes.
    pub state: u64,
    /// How much of that crossed the wire, in bytes.
    pub sent: u64,
    /// How long the whole took, in milliseconds.
    pub took_ms: f64,
}

impl fmt::Display for Migrated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, source, target, .. } = self;
        let (frozen, took) = (span(self.freeze_ms), span(self.took_ms));
        let (state, sent) = (bytes(self.state), bytes(self.sent));
        write!(
            f,
            "{what} migrated {source} → {target} · frozen {frozen} · {state} state, {sent} sent · {took}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_at_a_glance() {
        let line = Migrated {
            what: "web-7d9f",
            source: "worker-a",
            target: "worker-b",
            freeze_ms: 312.0,
            state: 1181 << 20,
            sent: 214 << 20,
            took_ms: 2900.0,
        };
        let expected =
            "web-7d9f migrated worker-a → worker-b · frozen 312 ms · 1.2 GiB state, 214 MiB sent · 2.9 s";
        assert_eq!(line.to_string(), expected);
    }
}

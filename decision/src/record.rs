//! The one record that decides a migration.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Failure, MigrationId, PodUid, Root};

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The target owns the container. The source is never thawed again.
    Released,
    /// The source owns the container. The target is discarded.
    Kept,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Released => "released",
            Verdict::Kept => "kept",
        })
    }
}

/// Who wrote the record; for people, nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The source agent, in the course of the migration.
    Agent,
    /// The watchdog, at the end of the freeze budget.
    Watchdog,
    /// Whoever took up a migration that its agent had left: a restarted agent, or `transship recover`.
    Recovery,
}

/// Milliseconds since 1970 by the source's clock; for people, nothing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The clock's time; 0 for a clock that stands before 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The decision of one migration. Its canonical bytes are its JSON on one line, in this order of fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Record {
    version: u32,
    migration: MigrationId,
    pod_uid: PodUid,
    /// There if and only if the verdict is `released`.
    root: Option<Root>,
    verdict: Verdict,
    /// There if and only if the verdict is `kept`.
    reason: Option<Failure>,
    decided_at: UnixMillis,
    by: By,
}

/// The version of the format that this code writes, and the only one that it reads.
const VERSION: u32 = 1;

/// The most that is accepted of a record with its signature, in bytes.
const LARGEST: usize = 16 * 1024;

/// Longest message taken into a record, in bytes: keeps every record far under [`LARGEST`].
const LONGEST_MESSAGE: usize = 2048;

/// Bytes that are no record.
#[derive(Debug, thiserror::Error)]
pub enum MalformedRecord {
    /// Larger than any record is.
    #[error("a record of {0} bytes: at most {LARGEST} are accepted")]
    TooLarge(usize),
    /// Not what [`SignedRecord::encode`] makes.
    #[error("not a record: one line of JSON and one line of signature are expected")]
    NotTwoLines,
    /// The first line isn't a record of this version.
    #[error("not a record: {0}")]
    Json(#[from] serde_json::Error),
    /// The second line isn't hexadecimal.
    #[error("the record's signature is not hexadecimal: {0}")]
    Signature(#[from] hex::FromHexError),
}

impl Record {
    /// `released`: the copy whose tree is sealed under `root` is the one that lives.
    pub fn released(migration: MigrationId, pod_uid: PodUid, root: Root, by: By, at: UnixMillis) -> Self {
        let (root, reason) = (Some(root), None);
        Self {
            version: VERSION,
            migration,
            pod_uid,
            root,
            verdict: Verdict::Released,
            reason,
            decided_at: at,
            by,
        }
    }

    /// `kept`: the source goes on, because of `reason` (its message is cut at 2048 bytes).
    pub fn kept(
        migration: MigrationId,
        pod_uid: PodUid,
        mut reason: Failure,
        by: By,
        at: UnixMillis,
    ) -> Self {
        reason.message.truncate(reason.message.floor_char_boundary(LONGEST_MESSAGE));
        let (root, reason) = (None, Some(reason));
        Self {
            version: VERSION,
            migration,
            pod_uid,
            root,
            verdict: Verdict::Kept,
            reason,
            decided_at: at,
            by,
        }
    }

    /// The migration that this decides.
    pub fn migration(&self) -> &MigrationId {
        &self.migration
    }

    /// The UID of the source's Pod.
    pub fn pod_uid(&self) -> &PodUid {
        &self.pod_uid
    }

    /// What is decided.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What the target must hold in its hands; `None` for `kept`.
    pub fn root(&self) -> Option<Root> {
        self.root
    }

    /// Why it was kept; `None` for `released`.
    pub fn reason(&self) -> Option<&Failure> {
        self.reason.as_ref()
    }

    /// When, by the clock of whoever wrote it. The watchdog writes ahead: there it is when it was armed.
    pub fn decided_at(&self) -> UnixMillis {
        self.decided_at
    }

    /// Who wrote it.
    pub fn by(&self) -> By {
        self.by
    }
}

/// What serde reads, before the rules between fields have been checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    version: u32,
    migration: MigrationId,
    pod_uid: PodUid,
    root: Option<Root>,
    verdict: Verdict,
    reason: Option<Failure>,
    decided_at: UnixMillis,
    by: By,
}

impl TryFrom<Unchecked> for Record {
    type Error = &'static str;

    fn try_from(u: Unchecked) -> Result<Self, Self::Error> {
        if u.version != VERSION {
            return Err("a version of the record's format that is not known here");
        }
        match (u.verdict, &u.root, &u.reason) {
            (Verdict::Released, Some(_), None) | (Verdict::Kept, None, Some(_)) => {}
            _ => return Err("`released` comes with a root and `kept` with a reason, and neither with both"),
        }
        let Unchecked { version, migration, pod_uid, root, verdict, reason, decided_at, by } = u;
        Ok(Self { version, migration, pod_uid, root, verdict, reason, decided_at, by })
    }
}

/// A record as it lies on a disk and crosses the wire: its canonical bytes, and perhaps a signature of them.
///
/// The bytes are kept as they came, so a signature stays good whatever a later version would write.
/// Signatures are made and verified by the agent; the watchdog has no key, so what it writes has none until
/// the agent that carries it adds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    record: Record,
    canonical: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl SignedRecord {
    /// `record` without a signature.
    pub fn unsigned(record: Record) -> Self {
        // A struct of strings and numbers always has a JSON form.
        let canonical = serde_json::to_vec(&record).unwrap_or_default();
        Self { record, canonical, signature: None }
    }

    /// The same record with `signature`, which must be one of [`Self::canonical`].
    pub fn with_signature(self, signature: Vec<u8>) -> Self {
        Self { signature: Some(signature), ..self }
    }

    /// The record.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The bytes that are signed.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The signature of [`Self::canonical`], not verified here.
    pub fn signature(&self) -> Option<&[u8]> {
        self.signature.as_deref()
    }

    /// Two lines: the canonical bytes, and the signature in hexadecimal (empty where there is none).
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.canonical.clone();
        bytes.push(b'\n');
        bytes.extend_from_slice(hex::encode(self.signature.as_deref().unwrap_or_default()).as_bytes());
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`Self::encode`] wrote, here or on another node.
    ///
    /// # Errors
    /// Whatever isn't exactly that; nothing is guessed.
    pub fn decode(bytes: &[u8]) -> Result<Self, MalformedRecord> {
        if bytes.len() > LARGEST {
            return Err(MalformedRecord::TooLarge(bytes.len()));
        }
        let mut lines = bytes.split(|b| *b == b'\n');
        let (Some(canonical), Some(signature), Some([]), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(MalformedRecord::NotTwoLines);
        };
        let record = serde_json::from_slice(canonical)?;
        let signature = match signature {
            [] => None,
            digits => Some(hex::decode(digits)?),
        };
        Ok(Self { record, canonical: canonical.to_vec(), signature })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(message: &str) -> Record {
        let reason = Failure::new("Cancelled", message);
        Record::kept("m-1".parse().unwrap(), "pod-1".parse().unwrap(), reason, By::Agent, UnixMillis(7))
    }

    fn released() -> Record {
        let (id, pod) = ("m-1".parse().unwrap(), "pod-1".parse().unwrap());
        Record::released(id, pod, Root([7; 32]), By::Agent, UnixMillis(1_764_000_000_000))
    }

    /// The format is on disks: a change of it needs a new version.
    #[test]
    fn the_canonical_bytes_are_these() {
        let expected = format!(
            r#"{{"version":1,"migration":"m-1","pod_uid":"pod-1","root":"{}","verdict":"released","reason":null,"decided_at":1764000000000,"by":"agent"}}"#,
            "07".repeat(32)
        );
        assert_eq!(String::from_utf8(SignedRecord::unsigned(released()).canonical).unwrap(), expected);
    }

    #[test]
    fn verdict_root_and_reason_must_fit_each_other() {
        let good = String::from_utf8(SignedRecord::unsigned(released()).encode()).unwrap();
        for (from, to) in [
            ("released", "kept"),
            (&*"07".repeat(32), "0707"),
            ("\"version\":1", "\"version\":2"),
            ("\"by\"", "\"also\":1,\"by\""),
            ("pod-1", "../pod"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(SignedRecord::decode(bad.as_bytes()).is_err(), "accepted: {bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(message in ".{0,3000}", signature in proptest::option::of(prop::collection::vec(any::<u8>(), 1..100))) {
            for record in [kept(&message), released()] {
                let mut signed = SignedRecord::unsigned(record);
                if let Some(signature) = &signature {
                    signed = signed.with_signature(signature.clone());
                }
                prop_assert_eq!(SignedRecord::decode(&signed.encode()).unwrap(), signed);
            }
        }

        #[test]
        fn a_torn_record_is_none(cut in 0usize..1000) {
            let bytes = SignedRecord::unsigned(released()).encode();
            if cut < bytes.len() {
                prop_assert!(SignedRecord::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = SignedRecord::decode(&bytes);
        }
    }
}

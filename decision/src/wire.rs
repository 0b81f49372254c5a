//! What the OCI wrapper and the agent say to each other on `runtime.sock`: one line of JSON each.
//!
//! ```text
//! wrapper                                     agent
//!    |-- {"version":1,"pod_uid":…}\n ----------->|
//!    |                                           |  waits for a sealed tree
//!    |<-- {"restore":{…}} | {"create":{}} | {"refuse":{…}}\n
//!    |
//!    exec runtime restore …, the socket left open: its end tells the agent that the runtime has ended
//! ```

use std::io::{self, Read};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ContainerId, PodUid};

/// The only version there is.
pub const VERSION: u32 = 1;

/// Longest line accepted, in bytes, its newline included.
pub const LONGEST_LINE: usize = 64 * 1024;

/// A wrapper asks what to do with a `create`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The Pod's UID, as the container runtime put it into the bundle.
    pub pod_uid: PodUid,
    /// The container's name in the Pod, as the container runtime put it into the bundle.
    pub container: String,
    /// The container's id.
    pub container_id: ContainerId,
    /// The sandbox's id.
    pub sandbox_id: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The OCI runtime's `--root`, where one was given.
    pub root: Option<PathBuf>,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Restore in place of the create.
    Restore(Restore),
    /// Go on as if nothing were expected.
    Create {},
    /// Fail with this reason, which the user sees in the container runtime's error.
    Refuse {
        /// What happened and what to do.
        reason: String,
    },
}

/// How to restore. Whatever CRIU is to be told beyond `flags` the agent writes into the bundle
/// (`org.criu.config`) before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// `--image-path`.
    pub images: PathBuf,
    /// `--work-path`.
    pub work: PathBuf,
    /// Further flags of the runtime's `restore`, such as `--tcp-established`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Environment of the runtime, beyond what the wrapper was started with.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Folders of the host cgroup to work in: one for each v1 hierarchy, or the one of v2.
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
}

/// Why a line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other end is gone, or nothing came in time (`WouldBlock`).
    #[error("the connection on the runtime socket ended: {0}")]
    Io(#[from] io::Error),
    /// More than [`LONGEST_LINE`].
    #[error("a line of more than {LONGEST_LINE} bytes on the runtime socket")]
    TooLong,
    /// Not what was expected.
    #[error("not understood on the runtime socket: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message as the line that is sent.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > LONGEST_LINE { Err(WireError::TooLong) } else { Ok(line) }
}

/// A message from a line, with or without its newline.
///
/// # Errors
/// [`WireError::TooLong`], [`WireError::Json`].
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, WireError> {
    if line.len() > LONGEST_LINE {
        return Err(WireError::TooLong);
    }
    Ok(serde_json::from_slice(line)?)
}

/// Collects one line from a stream, across reads that time out.
#[derive(Debug, Default)]
pub struct Line(Vec<u8>);

impl Line {
    /// Reads until the line is whole and returns it. An error of the kind `WouldBlock` or `TimedOut` loses
    /// nothing: call it again. Bytes after the newline are dropped; none are ever sent.
    ///
    /// # Errors
    /// [`WireError::Io`] (`UnexpectedEof` when the stream ends first), [`WireError::TooLong`].
    pub fn read(&mut self, mut stream: impl Read) -> Result<Vec<u8>, WireError> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.0.iter().position(|b| *b == b'\n') {
                self.0.truncate(end);
                return Ok(std::mem::take(&mut self.0));
            }
            if self.0.len() >= LONGEST_LINE {
                return Err(WireError::TooLong);
            }
            match stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => self.0.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The other end may be of another version: the words on the wire are these.
    #[test]
    fn the_words_are_these() {
        let restore = Restore { images: "/i".into(), work: "/w".into(), ..Restore::default() };
        for (reply, line) in [
            (Reply::Create {}, r#"{"create":{}}"#),
            (Reply::Refuse { reason: "no".into() }, r#"{"refuse":{"reason":"no"}}"#),
            (
                Reply::Restore(restore),
                r#"{"restore":{"images":"/i","work":"/w","flags":[],"env":[],"cgroups":[]}}"#,
            ),
        ] {
            assert_eq!(encode(&reply).unwrap(), format!("{line}\n").as_bytes());
            assert_eq!(decode::<Reply>(line.as_bytes()).unwrap(), reply);
        }
        let least = br#"{"restore":{"images":"/i","work":"/w"}}"#;
        assert!(matches!(decode(least).unwrap(), Reply::Restore(_)));
    }

    /// Gives `bytes` in pieces of `size`, with a time-out before each.
    struct Slow<'a>(&'a [u8], usize, bool);
    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = self.1.min(self.0.len()).min(into.len());
            into[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    proptest! {
        #[test]
        fn a_line_is_whole_however_it_comes(text in "[^\n]{0,300}", size in 1usize..50) {
            let bytes = format!("{text}\n");
            let (mut slow, mut line) = (Slow(bytes.as_bytes(), size, false), Line::default());
            let read = loop {
                match line.read(&mut slow) {
                    Err(WireError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
                    other => break other.unwrap(),
                }
            };
            prop_assert_eq!(String::from_utf8(read).unwrap(), text);
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let endless = io::repeat(b'x');
        assert!(matches!(Line::default().read(endless), Err(WireError::TooLong)));
        assert!(matches!(Line::default().read(&b"half"[..]), Err(WireError::Io(_))));
    }
}

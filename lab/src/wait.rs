//! Waiting for what sends no event.

use std::time::{Duration, Instant};

use crate::{LabError, Result};

/// Asks `look` again and again until it finds something, for at most `timeout`. `what` completes the sentence
/// "… did not happen within 10 s".
pub fn until<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(LabError::Timeout {
                what: what.to_owned(),
                seconds: timeout.as_secs(),
                detail: String::new(),
            });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! The records before an entry that say what its header has no room for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// What comes before an entry and overrules its header.
#[derive(Default)]
pub(super) struct Extension {
    pub path: Option<Vec<u8>>,
    pub target: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub modified: Option<(i64, u32)>,
    pub records: Vec<(OsString, Vec<u8>)>,
}

impl Extension {
    /// Takes the records `LENGTH KEY=VALUE\n` (pax(1)); the length counts the whole record. None if they aren't such.
    pub fn add_pax(&mut self, mut records: &[u8]) -> Option<()> {
        while !records.is_empty() {
            let blank = records.iter().take(8).position(|byte| *byte == b' ')?;
            let length: usize = text(&records[..blank])?;
            let record = records.get(blank + 1..length)?.strip_suffix(b"\n")?;
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(text(value)?),
                b"uid" => self.user = Some(text(value)?),
                b"gid" => self.group = Some(text(value)?),
                b"mtime" => self.modified = Some(time(std::str::from_utf8(value).ok()?)?),
                // A sparse file's contents aren't what its size says.
                _ if key.starts_with(b"GNU.sparse.") => return None,
                _ => self.records.push((OsString::from_vec(key.to_vec()), value.to_vec())),
            }
        }
        Some(())
    }
}

fn text<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Seconds with a fraction, perhaps negative: the nanoseconds count upwards from the whole second below.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits = &fraction.as_bytes()[..fraction.len().min(9)];
    let nanos = digits.iter().try_fold(0_u32, |nanos, digit| {
        digit.is_ascii_digit().then(|| nanos * 10 + u32::from(digit - b'0'))
    })?;
    let nanos = nanos * 10_u32.pow(9 - digits.len() as u32);
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_record_is_read_or_refused(records: Vec<u8>) {
            let _ = Extension::default().add_pax(&records);
        }

        #[test]
        fn times_come_back(seconds in -1_000_000_000_000_i64..1_000_000_000_000, nanos in 0_u32..1_000_000_000) {
            prop_assert_eq!(time(&crate::rootfs::pax_time(seconds, nanos)), Some((seconds, nanos)));
        }
    }
}

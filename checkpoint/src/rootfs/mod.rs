//! The changes that a container made to its root file system, carried as an OCI layer (OCI image specification 1.1,
//! `layer.md`).
//!
//! [`capture()`] writes what lies in an overlay's upper directory, [`apply()`] puts such a layer onto a mounted root file
//! system: ours, or the `rootfs-diff.tar` of a checkpoint archive.
//!
//! Beyond what the specification has, times keep their nanoseconds and extended attributes their bytes (PAX records as
//! GNU tar, Go and containerd write them), and a unix socket is an empty file with the record [`SOCKET`], so that other
//! tools see an ordinary layer.

mod apply;
mod capture;
mod xattrs;

pub use apply::{ApplyError, apply};
pub use capture::{CaptureError, capture};

pub use crate::tar_reader::{Caps, TarError};

/// The PAX record, of any value, that tells a unix socket from an empty file.
pub const SOCKET: &str = "TRANSSHIP.socket";

/// Before the name of what a layer removes.
const WHITEOUT: &str = ".wh.";
/// In a directory of which nothing below the layer is to be seen.
const OPAQUE: &str = ".wh..wh..opq";
/// Before the name of an extended attribute, as a PAX record's key.
const XATTR: &str = "SCHILY.xattr.";

/// A time as a PAX record has it: seconds since 1970, with a fraction, perhaps negative.
pub(crate) fn pax_time(seconds: i64, nanos: u32) -> String {
    match (seconds, nanos) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanos:09}"),
        (_, _) => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
    }
}

#[cfg(test)]
mod tests;

//! Mounts that have to go before a folder can.

use std::path::Path;

use procfs::process::Process;
use rustix::mount::{UnmountFlags, unmount};
use transship_proto::Fault;

use super::failed;

/// Unmounts everything at and below a folder, the last mount first.
pub fn unmount_below(folder: &Path) -> Result<(), Fault> {
    let mounts = Process::myself().and_then(|me| me.mountinfo());
    let mounts =
        mounts.map_err(|error| failed("reading the agent's own mounts")(std::io::Error::other(error)))?;
    let points = mounts.into_iter().map(|mount| mount.mount_point);
    let mut inside: Vec<_> = points.filter(|point| point.starts_with(folder)).collect();
    while let Some(point) = inside.pop() {
        let doing = format!("unmounting {}", point.display());
        unmount(&point, UnmountFlags::DETACH).map_err(|errno| failed(doing)(errno.into()))?;
    }
    Ok(())
}

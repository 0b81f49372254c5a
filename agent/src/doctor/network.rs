//! What the transfer's sockets and CRIU's pipes are allowed.

use std::fs;

use rustix::thread::CapabilitySet;

use super::{Finding, privileges};

/// What the transfer's UDP socket asks for each way, in bytes: less loses packets in the socket, not on the wire.
const SOCKET_BUFFER: u64 = 8 << 20;

/// Large enough buffers for the transfer's UDP socket.
pub fn udp_buffers() -> Finding {
    let limits = ["rmem_max", "wmem_max"].map(|name| number(&format!("/proc/sys/net/core/{name}")));
    let forced = privileges::effective().is_ok_and(|held| held.contains(CapabilitySet::NET_ADMIN));
    judge_udp_buffers(limits, forced)
}

fn judge_udp_buffers(limits: [Option<u64>; 2], forced: bool) -> Finding {
    const NAME: &str = "UDP buffers";
    let [receive, send] = limits.map(|limit| limit.unwrap_or(0));
    let detail = format!("net.core.rmem_max {receive}, net.core.wmem_max {send}");
    if receive >= SOCKET_BUFFER && send >= SOCKET_BUFFER {
        return Finding::ok(NAME, detail);
    }
    if forced {
        return Finding::ok(NAME, format!("{detail}; the agent takes {SOCKET_BUFFER} by CAP_NET_ADMIN"));
    }
    let mend = format!("sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}");
    Finding::warn(NAME, format!("{detail}: fast links will lose packets here"), mend)
}

/// For information: CRIU keeps pages in pipes when it dumps lazily.
pub fn pipe_size() -> Finding {
    const NAME: &str = "pipe size";
    match number("/proc/sys/fs/pipe-max-size") {
        Some(size) => Finding::ok(NAME, format!("fs.pipe-max-size {size}")),
        None => Finding::warn(NAME, "fs.pipe-max-size can't be read", "mount /proc"),
    }
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn small_buffers_matter_to_those_who_may_not_exceed_them() {
        let small = [Some(212_992), Some(212_992)];
        let finding = judge_udp_buffers(small, false);
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.mend.unwrap().contains("net.core.rmem_max=8388608"));
        assert_eq!(judge_udp_buffers(small, true).status, Status::Ok);
        assert_eq!(judge_udp_buffers([Some(SOCKET_BUFFER); 2], false).status, Status::Ok);
        assert_eq!(judge_udp_buffers([None; 2], false).status, Status::Warn);
    }
}

//! What the network does to a connection, for metrics.

use std::time::Duration;

/// The state of a connection's path at one moment, seen from this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStats {
    /// Bytes of UDP payload that a packet may have at present.
    pub mtu: u16,
    /// Smoothed round-trip time.
    pub round_trip: Duration,
    /// Bytes that congestion control lets be under way.
    pub congestion_window: u64,
    /// Packets sent so far.
    pub sent_packets: u64,
    /// Packets of those that count as lost.
    pub lost_packets: u64,
    /// How often large packets vanished so that the MTU was lowered.
    pub black_holes: u64,
}

impl PathStats {
    pub(crate) fn of(connection: &quinn::Connection) -> Self {
        let path = connection.stats().path;
        Self {
            mtu: path.current_mtu,
            round_trip: path.rtt,
            congestion_window: path.cwnd,
            sent_packets: path.sent_packets,
            lost_packets: path.lost_packets,
            black_holes: path.black_holes_detected,
        }
    }
}

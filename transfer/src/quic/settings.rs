//! The knobs of the transport, and why they stand where they do.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// What an application may want to set about an [`Endpoint`](super::Endpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long the other end may be unreachable before a connection counts as lost. A peer that is alive is heard
    /// four times in that time, even when it has nothing to send. Default: 12 s.
    pub idle_timeout: Duration,
    /// How long an accepted connection may take until its ticket is there. Default: 10 s.
    pub handshake_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_timeout: Duration::from_secs(12), handshake_timeout: Duration::from_secs(10) }
    }
}

/// Most lanes that a sender may open on a connection.
pub(crate) const MAX_LANES: u16 = 8;

/// Bytes that a connection may have under way, on one lane or on all: 8 MiB fill 3 Gbit/s at 20 ms, quinn's default of
/// 1.25 MB for a stream half of one.
///
/// It also bounds what a receiver that can't keep up has to hold; quinn's default for a connection is no bound, and more
/// than `u32::MAX` switches pacing off, which loses packets by the hundred thousand. With 16 MiB of large packets quinn
/// copies what waits on a stream into one piece (beyond 2,048 packets): half again as much CPU, three times the memory.
const WINDOW: u32 = 8 << 20;
/// Bytes that a sender holds until they are acknowledged.
const SEND_WINDOW: u64 = WINDOW as u64;

/// Largest UDP payload that is probed for and taken, in bytes: where the network has jumbo frames it halves the cost of
/// a byte. It isn't 8,972, the most that fits into them, because quinn hands the kernel ten packets at once, and more
/// than 64 KiB at once is refused: the MTU then collapses to 1,200.
const MAX_PACKET: u16 = 6500;

/// Bytes that a connection may send before the first acknowledgement: ten of the largest packets, as RFC 9002 has it for
/// ordinary ones.
///
/// It also keeps the way free for the end of a connection: quinn holds a CONNECTION_CLOSE back when the window is full,
/// and drops it for good a few round trips later. In its default of two large packets one probe for a larger packet
/// fills a receiver's window, and the sender then times out instead of hearing why it was refused.
const INITIAL_WINDOW: u64 = 10 * MAX_PACKET as u64;

impl Settings {
    pub(super) fn endpoint(&self) -> EndpointConfig {
        let mut endpoint = EndpointConfig::default();
        if let Err(error) = endpoint.max_udp_payload_size(MAX_PACKET) {
            tracing::error!(%error, "quinn takes no packets of {MAX_PACKET} bytes");
        }
        endpoint
    }

    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        // What doesn't fit into the protocol's 62 bits of milliseconds is for ever.
        transport.max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok());
        transport.keep_alive_interval(Some(self.idle_timeout / 4));
        transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
        transport.max_concurrent_uni_streams(VarInt::from_u32(MAX_LANES.into()));
        transport.stream_receive_window(VarInt::from_u32(WINDOW));
        transport.receive_window(VarInt::from_u32(WINDOW));
        transport.send_window(SEND_WINDOW);
        transport.congestion_controller_factory(Arc::new({
            let mut cubic = CubicConfig::default();
            cubic.initial_window(INITIAL_WINDOW);
            cubic
        }));
        transport.mtu_discovery_config(Some({
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(MAX_PACKET);
            discovery
        }));
        transport.datagram_receive_buffer_size(None);
        Arc::new(transport)
    }
}

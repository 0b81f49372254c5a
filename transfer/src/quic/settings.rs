//! The knobs of the transport, and why they stand where they do.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

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

/// Bytes that a lane may have under way: 16 MiB fill 6 Gbit/s at 20 ms, quinn's default of 1.25 MB half of one.
const STREAM_WINDOW: u32 = 16 << 20;
/// Bytes that a connection may have under way. It bounds what a receiver that can't keep up has to hold; quinn's
/// default is no bound. More than `u32::MAX` would switch pacing off, which loses packets by the hundred thousand.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Bytes that a sender holds until they are acknowledged.
const SEND_WINDOW: u64 = 16 << 20;

impl Settings {
    pub(super) fn transport(&self) -> TransportConfig {
        let mut transport = TransportConfig::default();
        // What doesn't fit into the protocol's 62 bits of milliseconds is for ever.
        transport.max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok());
        transport.keep_alive_interval(Some(self.idle_timeout / 4));
        transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
        transport.max_concurrent_uni_streams(VarInt::from_u32(MAX_LANES.into()));
        transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
        transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW));
        transport.send_window(SEND_WINDOW);
        transport.datagram_receive_buffer_size(None);
        transport
    }

    pub(super) fn shared_transport(&self) -> Arc<TransportConfig> {
        Arc::new(self.transport())
    }
}

//! Faults on purpose, for tests of what is built on this crate. Behind the feature `faults`.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::Endpoint;

/// What shall go wrong on the sending side. Chunks with a payload are counted from 0, over all lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Flip one bit of this chunk's payload, after it was hashed.
    pub flip_bit_in_chunk: Option<u64>,
    /// Before this chunk, cut the line: from then on the endpoint neither sends nor hears anything, without a word to
    /// anyone. This takes down all connections of the endpoint.
    pub cut_before_chunk: Option<u64>,
}

/// Faults that lie in wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Armed {
    faults: Faults,
    chunks: Arc<AtomicU64>,
    endpoint: Option<quinn::Endpoint>,
}

impl Armed {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn new(faults: Faults, endpoint: &Endpoint) -> Self {
        Self { faults, chunks: Arc::default(), endpoint: Some(endpoint.quic().clone()) }
    }

    /// A payload goes by.
    pub fn meet(&mut self, payload: Bytes) -> Bytes {
        let chunk = Some(self.chunks.fetch_add(1, Ordering::Relaxed));
        if let (true, Some(endpoint)) = (chunk == self.faults.cut_before_chunk, &self.endpoint) {
            // Twice: an endpoint goes on listening at the socket before the last.
            for _ in 0..2 {
                if let Err(error) = endpoint.rebind_abstract(Arc::new(DeadLine)) {
                    tracing::error!(%error, "the line can't be cut");
                }
            }
        }
        if chunk != self.faults.flip_bit_in_chunk {
            return payload;
        }
        let mut flipped = payload.to_vec();
        if let Some(byte) = flipped.last_mut() {
            *byte ^= 1;
        }
        flipped.into()
    }
}

/// A socket that takes everything and gives nothing.
#[derive(Debug)]
struct DeadLine;

impl AsyncUdpSocket for DeadLine {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Self)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([0, 0, 0, 0], 0)))
    }
}

impl UdpPoller for DeadLine {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

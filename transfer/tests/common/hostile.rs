//! A sender that is played frame by frame.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, RecvStream, SendStream, TransportConfig};
use tempfile::TempDir;
use transship_transfer::core::ALPN;
use transship_transfer::core::chunk::{ChunkHeader, Encoding, EntryId, zero_hash};
use transship_transfer::core::close::CloseCode;
use transship_transfer::core::frame::{Control, Frame, Lane, PREFACE};
use transship_transfer::core::tree::EntryKind;
use transship_transfer::{Hash, Limits, Receiving, TreePath};

use super::{Ca, Nodes, dir};

/// The sender's side of a connection, without the sender's manners.
pub struct Hostile {
    pub connection: quinn::Connection,
    pub control: SendStream,
    pub lane: SendStream,
    _answers: RecvStream,
    pub receiving: Receiving,
    _nodes: Nodes,
    pub target: TempDir,
    _endpoint: quinn::Endpoint,
}

/// A raw connection to `nodes.b`, as node `a`.
pub async fn connect(ca: &Ca, nodes: &Nodes) -> (quinn::Endpoint, quinn::Connection) {
    let tls = ca.node("a").client_config(&[ALPN]).unwrap();
    let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    // It holds next to nothing itself, so that a test can measure what the receiver does.
    let mut transport = TransportConfig::default();
    transport.send_window(64 << 10);
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(nodes.b.local_address().unwrap(), "b").unwrap().await.unwrap();
    (endpoint, connection)
}

impl Hostile {
    pub async fn new(limits: Limits) -> Self {
        let ca = Ca::new();
        let mut nodes = Nodes::of_ca(&ca, super::endpoint);
        let target = dir();
        let (_endpoint, connection, control, answers, incoming) = {
            let opening = async {
                let (endpoint, connection) = connect(&ca, &nodes).await;
                let (mut control, answers) = connection.open_bi().await.unwrap();
                let mut opening = PREFACE.to_vec();
                Control::Open { ticket: "ticket".into() }.encode(&mut opening);
                control.write_all(&opening).await.unwrap();
                (endpoint, connection, control, answers)
            };
            let mut listener = nodes.b.listen();
            let ((endpoint, connection, control, answers), incoming) =
                tokio::join!(opening, listener.accept());
            nodes.listener = listener;
            (endpoint, connection, control, answers, incoming.unwrap().unwrap())
        };
        let receiving = incoming.accept(target.path(), limits).await.unwrap();
        let lane = connection.open_uni().await.unwrap();
        Self { connection, control, lane, _answers: answers, receiving, _nodes: nodes, target, _endpoint }
    }

    pub async fn say(&mut self, frame: Lane) -> &mut Self {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.raw(&bytes).await
    }

    pub async fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        // It may be closed by now: that is what is waited for.
        self.lane.write_all(bytes).await.ok();
        self
    }

    /// Waits for the end: the receiver's code is `expected`, and nothing was verified.
    pub async fn ends_with(self, expected: CloseCode) -> TempDir {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                let code = CloseCode::from_wire(close.error_code.into_inner());
                assert_eq!(code, expected, "{}", String::from_utf8_lossy(&close.reason));
            }
            error => panic!("{error:?}"),
        }
        self.receiving.verified().await.unwrap_err();
        self.target
    }
}

pub const FILE: EntryKind = EntryKind::File { mode: 0o600 };
pub const CHUNK: u32 = 256 * 1024;

pub fn announce(entry: u32, path: &str) -> Lane {
    Lane::Announce { entry: EntryId(entry), path: TreePath::new(path).unwrap(), kind: FILE }
}

pub fn zeros(index: u32, length: u32) -> Lane {
    let hash = zero_hash(length as usize);
    Lane::Chunk(ChunkHeader { entry: EntryId(0), index, length, encoding: Encoding::Zero, hash })
}

pub fn raw_chunk(length: u32, hash: Hash) -> Lane {
    Lane::Chunk(ChunkHeader { entry: EntryId(0), index: 0, length, encoding: Encoding::Raw, hash })
}

pub fn finish(size: u64, hash: Hash) -> Lane {
    Lane::Finish { entry: EntryId(0), size, hash }
}

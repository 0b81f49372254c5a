//! Two nodes with a CA between them, on loopback.

// Every test binary uses a part of this; what fails here fails the test.
#![allow(dead_code, clippy::unwrap_used)]

pub mod hostile;

use std::fs::File;
use std::io::{Seek, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use transship_transfer::identity::IdentityError;
use transship_transfer::receive::AcceptError;
use transship_transfer::{
    Endpoint, Identity, Incoming, Limits, Listener, Receiving, SendError, Sender, Settings,
};

/// A certificate authority of a test.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// When a certificate is valid.
pub enum Validity {
    Now,
    Past,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "transship test CA");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The identity of node `name`.
    pub fn node(&self, name: &str) -> Identity {
        self.issue(&[name], Validity::Now)
    }

    pub fn issue(&self, names: &[&str], validity: Validity) -> Identity {
        self.try_issue(names, validity).unwrap()
    }

    pub fn try_issue(&self, names: &[&str], validity: Validity) -> Result<Identity, IdentityError> {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Validity::Past = validity {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity::new(vec![certificate.into()], key, roots)
    }
}

pub fn endpoint(identity: &Identity) -> Endpoint {
    endpoint_with(identity, Settings::default())
}

/// An endpoint that takes a peer for lost after 600 ms.
pub fn impatient(identity: &Identity) -> Endpoint {
    endpoint_with(identity, Settings { idle_timeout: Duration::from_millis(600), ..Settings::default() })
}

fn endpoint_with(identity: &Identity, settings: Settings) -> Endpoint {
    Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), identity, settings).unwrap()
}

/// Nodes `a` and `b` of one CA.
pub struct Nodes {
    pub a: Endpoint,
    pub b: Endpoint,
    pub listener: Listener,
}

impl Nodes {
    pub fn new() -> Self {
        Self::of(endpoint)
    }

    pub fn of(endpoint: fn(&Identity) -> Endpoint) -> Self {
        Self::of_ca(&Ca::new(), endpoint)
    }

    pub fn of_ca(ca: &Ca, endpoint: fn(&Identity) -> Endpoint) -> Self {
        let (a, b) = (endpoint(&ca.node("a")), endpoint(&ca.node("b")));
        let listener = b.listen();
        Self { a, b, listener }
    }

    /// What `a` gets when it asks `b`, and what `b` sees of it.
    pub async fn meet(
        &mut self,
        ticket: impl Into<Bytes>,
    ) -> (JoinHandle<Result<Sender, SendError>>, Result<Incoming, AcceptError>) {
        let (a, address, ticket) = (self.a.clone(), self.b.local_address().unwrap(), ticket.into());
        let sender =
            tokio::spawn(async move { Sender::open(a.connect(address, "b").await.unwrap(), ticket).await });
        (sender, self.listener.accept().await.unwrap())
    }

    /// A transfer from `a` to `b` that was accepted into `dir`.
    pub async fn transfer(&mut self, dir: &Path) -> (Sender, Receiving) {
        self.transfer_within(dir, Limits::default()).await
    }

    pub async fn transfer_within(&mut self, dir: &Path, limits: Limits) -> (Sender, Receiving) {
        let (sender, incoming) = self.meet("ticket").await;
        let receiving = incoming.unwrap().accept(dir, limits).await.unwrap();
        (sender.await.unwrap().unwrap(), receiving)
    }
}

pub fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// An unnamed file with this content.
pub fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

/// Bytes that no compression shrinks, different ones for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

/// Bytes that compress about eightfold.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    noise(seed, length.div_ceil(8))
        .into_iter()
        .flat_map(|byte| [byte, 0, 0, 0, 0, 0, 0, 0])
        .take(length)
        .collect()
}

//! Who this node is, and whom it believes.
//!
//! TLS 1.3 and nothing older (RFC 8446), both ends with a certificate of the same CA. A node's certificate has exactly
//! one DNS name among its subject alternative names: the node's name. There is no switch that turns any of this off.

mod peer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use peer::{NameError, Peer};

/// Where the PEM files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityPaths {
    /// The CA's certificate; more than one while a CA is being replaced by another.
    pub ca: PathBuf,
    /// The node's certificate, and intermediate ones after it.
    pub certificate: PathBuf,
    /// The certificate's private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
}

/// A node's certificate and key, and the CA that it believes.
#[derive(Debug)]
pub struct Identity {
    name: String,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    /// Reads the PEM files.
    ///
    /// Whether the node's certificate is still valid is for the other end to say: see
    /// [`CertificateProblem`](crate::quic::CertificateProblem).
    pub fn load(paths: &IdentityPaths) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&paths.ca)? {
            roots.add(certificate).map_err(|source| IdentityError::Ca { file: paths.ca.clone(), source })?;
        }
        let certificates = read_certificates(&paths.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&paths.key)
            .map_err(|source| IdentityError::Pem { file: paths.key.clone(), source })?;
        Self::new(certificates, key, roots)
    }

    /// An identity from parts that are in memory already.
    pub fn new(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: RootCertStore,
    ) -> Result<Self, IdentityError> {
        let own = certificates.first().ok_or(IdentityError::NoCertificate)?;
        let name = peer::node_name(own)?;
        Ok(Self { name, certificates, key, roots: Arc::new(roots) })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a server of this node offers and asks for. `alpn` names the protocols, the preferred one first.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, IdentityError> {
        let provider = provider();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&provider))
                .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// What a client of this node offers and asks for. `alpn` names the protocols, the preferred one first.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, IdentityError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(self.certificates.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }
}

/// ring's primitives, AES-128-GCM first: on a CPU with AES instructions it costs half of what ChaCha20 does.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let failed = |source| IdentityError::Pem { file: file.into(), source };
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if certificates.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// The node's own identity can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A PEM file can't be read.
    #[error("can't read {}: it has to be a PEM file that this process may read", file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The CA's certificate can't be one.
    #[error("{} holds no usable CA certificate", file.display())]
    Ca {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// No certificate was given.
    #[error("the node has no certificate")]
    NoCertificate,
    /// The node's own certificate names no node.
    #[error("the node's own certificate can't be used")]
    Name(#[from] NameError),
    /// Certificate and key don't make a TLS configuration, for one because they don't belong together.
    #[error("the node's certificate and key can't be used")]
    Tls(#[from] rustls::Error),
    /// The CA can't be used to check others.
    #[error("the CA's certificate can't be used to check others")]
    Verifier(#[from] VerifierBuilderError),
}

//! The authenticated other end of a connection.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The other end, as its certificate names it. The handshake has checked the certificate against the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node's name: the one DNS name in its certificate.
    pub name: String,
    /// Its end-entity certificate.
    pub certificate: CertificateDer<'static>,
}

impl Peer {
    /// Reads the name out of a verified certificate chain, end-entity certificate first.
    ///
    /// For chains as rustls and quinn hand them out after a handshake.
    pub fn from_chain(chain: &[CertificateDer<'static>]) -> Result<Self, NameError> {
        let certificate = chain.first().ok_or(NameError::NoCertificate)?.clone();
        Ok(Self { name: node_name(&certificate)?, certificate })
    }
}

pub(super) fn node_name(certificate: &CertificateDer<'_>) -> Result<String, NameError> {
    let certificate = EndEntityCert::try_from(certificate).map_err(NameError::Malformed)?;
    let mut names = certificate.valid_dns_names();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.into()),
        (None, _) => Err(NameError::None),
        (Some(one), Some(other)) => Err(NameError::Several { one: one.into(), other: other.into() }),
    }
}

/// A certificate doesn't say which node it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no certificate.
    #[error("the other end showed no certificate")]
    NoCertificate,
    /// It can't be decoded.
    #[error("the certificate can't be decoded")]
    Malformed(#[source] webpki::Error),
    /// It has no DNS name.
    #[error("the certificate names no node: issue it with the node's name as its one DNS name")]
    None,
    /// It has more than one.
    #[error("the certificate names more than one node, {one} and {other}: issue it with one DNS name")]
    Several {
        /// The first.
        one: String,
        /// The second.
        other: String,
    },
}

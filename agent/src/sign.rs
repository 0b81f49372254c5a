//! The source signs its decision, so that anyone may carry it to the target.

use rustls::SignatureScheme;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use transship_decision::SignedRecord;
use transship_proto::{Fault, Reason};
use webpki::EndEntityCert;

/// What is signed begins with this, so that no other use of the key can make a decision.
const CONTEXT: &[u8] = b"transship decision record v1\0";
/// The schemes that a decision may be signed with.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
];

/// Signs with this node's key.
#[derive(Debug, Clone)]
pub struct Signer(Arc<dyn rustls::sign::SigningKey>);

impl Signer {
    /// The signer with the key in that PEM file.
    pub fn load(key: &Path) -> Result<Self, Fault> {
        let unusable = |error: String| {
            Fault::new(Reason::WrongCertificate, format!("the key {} can't be used: {error}", key.display()))
        };
        let der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
        let key = ring::sign::any_supported_type(&der).map_err(|error| unusable(error.to_string()))?;
        Ok(Self(key))
    }

    /// The record with this node's signature: the scheme's number in TLS (2 bytes), then the signature itself.
    pub fn sign(&self, record: SignedRecord) -> Result<SignedRecord, Fault> {
        let failed =
            |error: &str| Fault::new(Reason::HostError, format!("the decision can't be signed: {error}"));
        let signer =
            self.0.choose_scheme(&SCHEMES).ok_or_else(|| failed("the key fits no signature scheme"))?;
        let signature = signer.sign(&message(&record)).map_err(|error| failed(&error.to_string()))?;
        let mut bytes = u16::from(signer.scheme()).to_be_bytes().to_vec();
        bytes.extend(signature);
        Ok(record.with_signature(bytes))
    }
}

/// Whether the record was signed by the node with this certificate.
pub fn verify(record: &SignedRecord, certificate: &CertificateDer<'_>) -> Result<(), Fault> {
    let distrust = |why: String| {
        let what = format!("the record of migration {} can't be trusted: {why}", record.record().migration());
        Fault::new(Reason::RecordNotTrusted, what)
    };
    let bytes = record.signature().unwrap_or_default();
    let (scheme, signature) =
        bytes.split_first_chunk().ok_or_else(|| distrust("it has no signature".into()))?;
    let scheme = SignatureScheme::from(u16::from_be_bytes(*scheme));
    let known = ring::default_provider().signature_verification_algorithms;
    let algorithms = known
        .mapping
        .iter()
        .filter(|(of, _)| *of == scheme && SCHEMES.contains(of))
        .flat_map(|(_, all)| all.iter());
    let certificate = EndEntityCert::try_from(certificate)
        .map_err(|error| distrust(format!("the source's certificate: {error}")))?;
    let message = message(record);
    let good = algorithms
        .into_iter()
        .any(|&algorithm| certificate.verify_signature(algorithm, &message, signature).is_ok());
    if good { Ok(()) } else { Err(distrust("its signature isn't the source's".into())) }
}

fn message(record: &SignedRecord) -> Vec<u8> {
    [CONTEXT, record.canonical()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use transship_decision::{By, Record, Root, UnixMillis};

    fn node() -> (Signer, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), made.signing_key.serialize_pem()).unwrap();
        (Signer::load(file.path()).unwrap(), made.cert.der().clone())
    }

    fn record(root: u8) -> SignedRecord {
        let (id, pod) = ("m-1".parse().unwrap(), "pod".parse().unwrap());
        SignedRecord::unsigned(Record::released(id, pod, Root([root; 32]), By::Agent, UnixMillis(1)))
    }

    #[test]
    fn only_the_source_s_own_signature_of_this_very_record_counts() {
        let (signer, certificate) = node();
        let (_, other) = node();
        let signed = signer.sign(record(1)).unwrap();
        verify(&signed, &certificate).unwrap();
        assert_eq!(verify(&signed, &other).unwrap_err().reason, Reason::RecordNotTrusted);
        assert!(verify(&record(1), &certificate).is_err());
        let moved = record(2).with_signature(signed.signature().unwrap().to_vec());
        assert!(verify(&moved, &certificate).is_err());
    }
}

//! Who this node is to others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use transship_transfer::identity::{Identity, IdentityError, IdentityPaths};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Finding;
use crate::node::chain;

const DAY: u64 = 24 * 60 * 60;
/// From then on it is time to think of a successor, in days.
const SOON: u64 = 14;
const ISSUE: &str = "make a new one by `transship pki issue`";

/// All checks of this node's identity; those that need it are left out where there is none.
pub fn checks(paths: &IdentityPaths) -> Vec<Finding> {
    const NAME: &str = "identity";
    match read(paths) {
        Ok((name, certificates, authority)) => vec![
            Finding::ok(NAME, format!("node {name}, {}", paths.certificate.display())),
            judge(&certificates, &authority, UnixTime::now()),
            key_mode(&paths.key),
        ],
        Err(error) => vec![Finding::fail(
            NAME,
            chain(&error),
            "see `transship pki`; each node needs ca.crt, node.crt, node.key",
        )],
    }
}

type Certificates = Vec<CertificateDer<'static>>;

/// What the agent itself would read, judged as it would: the node's name, its certificates and the authority's.
fn read(paths: &IdentityPaths) -> Result<(String, Certificates, Certificates), IdentityError> {
    let identity = Identity::load(paths)?;
    identity.server_config(&[])?;
    let certificates = |file: &Path| -> Result<Certificates, IdentityError> {
        CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect)
            .map_err(|source| IdentityError::Pem { file: file.into(), source })
    };
    Ok((identity.name().to_owned(), certificates(&paths.certificate)?, certificates(&paths.ca)?))
}

/// Whether others believe it, and how much longer.
fn judge(certificates: &[CertificateDer<'_>], authority: &[CertificateDer<'_>], now: UnixTime) -> Finding {
    const NAME: &str = "certificate";
    if let Err(error) = verify(certificates, authority, now) {
        let (what, mend) = match error {
            webpki::Error::CertExpired { .. } => ("it, or the authority's, has expired".into(), ISSUE),
            webpki::Error::CertNotValidYet { .. } => ("it isn't valid yet".into(), "set this host's clock"),
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                ("it isn't from the authority in --ca".into(), ISSUE)
            }
            error => (format!("others won't believe it: {error}"), ISSUE),
        };
        return Finding::fail(NAME, what, mend);
    }
    let ends = certificates.iter().chain(authority).filter_map(|certificate| end(certificate));
    let left = ends.min().unwrap_or(0).saturating_sub(now.as_secs()) / DAY;
    if left < SOON {
        return Finding::warn(NAME, format!("valid for {left} more days only"), ISSUE);
    }
    Finding::ok(NAME, format!("valid for {left} more days"))
}

/// As both a server and a client, since every agent is called and calls.
fn verify(
    certificates: &[CertificateDer<'_>],
    authority: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), webpki::Error> {
    let (own, intermediates) = certificates.split_first().ok_or(webpki::Error::UnknownIssuer)?;
    let own = EndEntityCert::try_from(own)?;
    let anchors =
        authority.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<TrustAnchor<'_>>, _>>()?;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        own.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)?;
    }
    Ok(())
}

/// When it ends, in seconds of Unix time.
fn end(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

fn key_mode(key: &Path) -> Finding {
    const NAME: &str = "private key";
    let detail = key.display();
    match fs::metadata(key).map(|data| data.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o077 == 0 => Finding::ok(NAME, format!("{detail} is its owner's alone")),
        Ok(mode) => Finding::warn(NAME, format!("{detail} has mode {mode:o}"), format!("chmod 600 {detail}")),
        Err(error) => Finding::fail(NAME, format!("{detail}: {error}"), "run it as root"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    use super::super::Status;
    use super::*;

    struct Authority {
        certificate: Certificate,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate from now to then, with its key.
    fn node(authority: &Authority, days: u64) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new(["a".to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_secs(60)).into();
        params.not_after = (now + Duration::from_secs(days * DAY + 60)).into();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority.issuer).unwrap(), key)
    }

    fn judged(node: &Certificate, authority: &Authority, days_from_now: u64) -> Finding {
        let now =
            UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + days_from_now * DAY));
        judge(&[node.der().clone()], &[authority.certificate.der().clone()], now)
    }

    #[test]
    fn a_certificate_ages() {
        let authority = authority();
        let (node, _) = node(&authority, 100);
        assert_eq!(judged(&node, &authority, 0), Finding::ok("certificate", "valid for 100 more days"));
        assert_eq!(judged(&node, &authority, 90).status, Status::Warn);
        let ended = judged(&node, &authority, 101);
        assert_eq!(
            (ended.status, ended.detail.as_str()),
            (Status::Fail, "it, or the authority's, has expired")
        );
    }

    #[test]
    fn another_authority_is_another() {
        let (node, _) = node(&authority(), 100);
        let finding = judged(&node, &authority(), 0);
        assert_eq!(
            (finding.status, finding.detail.as_str()),
            (Status::Fail, "it isn't from the authority in --ca")
        );
    }

    #[test]
    fn files_are_judged_as_the_agent_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let paths = IdentityPaths {
            ca: dir.path().join("ca.crt"),
            certificate: dir.path().join("node.crt"),
            key: dir.path().join("node.key"),
        };
        let missing = checks(&paths);
        assert_eq!((missing.len(), missing[0].status), (1, Status::Fail));

        let authority = authority();
        let (node, key) = node(&authority, 100);
        fs::write(&paths.ca, authority.certificate.pem()).unwrap();
        fs::write(&paths.certificate, node.pem()).unwrap();
        fs::write(&paths.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o644)).unwrap();
        let statuses: Vec<_> = checks(&paths).iter().map(|finding| (finding.name, finding.status)).collect();
        assert_eq!(
            statuses,
            [("identity", Status::Ok), ("certificate", Status::Ok), ("private key", Status::Warn)]
        );

        fs::write(&paths.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let mixed = checks(&paths);
        assert_eq!((mixed.len(), mixed[0].status), (1, Status::Fail), "a key that isn't the certificate's");
    }
}

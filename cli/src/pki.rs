//! `transship pki`: an authority of one's own, and a certificate for each node.
//!
//! Keys are ECDSA P-256. A node's certificate has exactly one DNS name, the node's own: that is who it is to other
//! agents. It serves for both ends of a connection, since every agent is called and calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::DnsName;
use x509_parser::pem::parse_x509_pem;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates are valid from a little before now, since nodes' clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// What `transship pki` is told.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make an authority: DIR/ca.crt, which every node gets, and DIR/ca.key, which none does.
    Init(Init),
    /// Make a node's NODE.crt and NODE.key, signed by the authority in DIR.
    Issue(Issue),
}

/// A new authority.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The authority's folder; made if it isn't there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How long the authority is valid, in days.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(i64).range(1..=36500))]
    days: i64,
}

/// A new certificate of a node.
#[derive(Debug, clap::Args)]
pub struct Issue {
    /// The authority's folder, as `pki init` made it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The node's name: letters, digits, hyphens and dots.
    #[arg(long, value_name = "NODE")]
    name: String,
    /// An IP address at which the node is reached; may be given several times.
    #[arg(long = "address", value_name = "IP", required = true, value_parser = address)]
    addresses: Vec<IpAddr>,
    /// How long the certificate is valid, in days; negative for one that has ended already, to test with.
    #[arg(long, value_name = "N", default_value_t = 365, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i64).range(-3650..=36500))]
    days: i64,
    /// Where NODE.crt and NODE.key go; made if it isn't there. Without it: the authority's folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Keys that are in use must not vanish.
    #[error("{} is there already and is not overwritten: move it away, or choose another folder", .0.display())]
    Exists(PathBuf),
    /// A file of the authority can't be read.
    #[error("cannot read {}: {source}; `transship pki init` makes an authority", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder can't be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What lies in the authority's folder isn't an authority.
    #[error("{} is no authority to sign with: {why}", path.display())]
    Authority {
        /// The file that is at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate can't bear that name.
    #[error("{0:?} can't be a node's name: use letters, digits, hyphens and dots, as in a host's name")]
    Name(String),
    /// The certificate library failed.
    #[error("cannot make the certificate: {0}")]
    Sign(#[from] rcgen::Error),
}

/// A certificate and its key as they were written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM, PKCS#8, readable by its owner only.
    pub key: PathBuf,
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        "an IP address is wanted: the only host name in a node's certificate is its --name".into()
    })
}

/// Does what was asked for and says what was made.
pub fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Init(asked) => {
            let made = init(asked)?;
            println!("{}  goes to every node, as /etc/transship/ca.crt", made.certificate.display());
            println!("{}  stays here: whoever has it can make nodes", made.key.display());
        }
        Command::Issue(asked) => {
            let made = issue(asked)?;
            println!("{}  goes to {}, as /etc/transship/node.crt", made.certificate.display(), asked.name);
            println!(
                "{}  goes to {}, as /etc/transship/node.key, and nowhere else",
                made.key.display(),
                asked.name
            );
        }
    }
    Ok(())
}

/// Makes an authority.
pub fn init(asked: &Init) -> Result<Written, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Authorities of different names are told apart at once, by people and by those who check a signature.
    let id: String = CertificateParams::default()
        .key_identifier(&key)
        .iter()
        .take(4)
        .map(|b| format!("{b:02x}"))
        .collect();
    let mut params = params(&format!("transship authority {id}"), asked.days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write(&asked.dir, "ca", &certificate.pem(), &key.serialize_pem())
}

/// Makes a node's certificate.
pub fn issue(asked: &Issue) -> Result<Written, PkiError> {
    // A DNS name is a file name of its own, too: labels are never empty and hold no slash.
    DnsName::try_from(asked.name.as_str()).map_err(|_| PkiError::Name(asked.name.clone()))?;
    let authority = authority(&asked.dir)?;

    let mut params = params(&asked.name, asked.days);
    params.subject_alt_names = vec![SanType::DnsName(asked.name.as_str().try_into()?)];
    params.subject_alt_names.extend(asked.addresses.iter().copied().map(SanType::IpAddress));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, &authority)?;
    write(asked.out.as_ref().unwrap_or(&asked.dir), &asked.name, &certificate.pem(), &key.serialize_pem())
}

fn params(name: &str, days: i64) -> CertificateParams {
    let now = SystemTime::now();
    let span = DAY * u32::try_from(days.unsigned_abs()).unwrap_or(u32::MAX);
    let end = if days < 0 { now - span } else { now + span };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now.min(end) - CLOCK_SKEW).into();
    params.not_after = end.into();
    params
}

/// Reads the authority, and sees that its key is that of its certificate.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|source| PkiError::Read { path: path.to_path_buf(), source })
    };
    let (certificate, key) = (read(&certificate_path)?, read(&key_path)?);

    let bad_key = |why: String| PkiError::Authority { path: key_path.clone(), why };
    let bad_certificate = |why: String| PkiError::Authority { path: certificate_path.clone(), why };
    let key = KeyPair::from_pem(&key).map_err(|error| bad_key(error.to_string()))?;
    let (_, pem) =
        parse_x509_pem(certificate.as_bytes()).map_err(|error| bad_certificate(error.to_string()))?;
    let parsed = pem.parse_x509().map_err(|error| bad_certificate(error.to_string()))?;
    if !parsed.is_ca() {
        return Err(bad_certificate("it may not sign others".into()));
    }
    if !parsed.validity().is_valid() {
        return Err(bad_certificate(format!("it was valid until {}", parsed.validity().not_after)));
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(bad_key(format!("it isn't the key of {}", certificate_path.display())));
    }
    Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| bad_certificate(error.to_string()))
}

fn write(dir: &Path, stem: &str, certificate: &str, key: &str) -> Result<Written, PkiError> {
    fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_path_buf(), source })?;
    let written =
        Written { certificate: dir.join(format!("{stem}.crt")), key: dir.join(format!("{stem}.key")) };
    let (mut certificate_file, mut key_file) = create_both(&written)?;
    let fill = |path: &Path, file: &mut File, text: &str| {
        file.write_all(text.as_bytes()).map_err(|source| PkiError::Write { path: path.to_path_buf(), source })
    };
    fill(&written.key, &mut key_file, key)?;
    fill(&written.certificate, &mut certificate_file, certificate)?;
    Ok(written)
}

/// Both files or neither, so that the next try isn't stopped by half of this one.
fn create_both(paths: &Written) -> Result<(File, File), PkiError> {
    let create = |path: &Path, mode: u32| {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|source| {
            match source.kind() {
                io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_path_buf()),
                _ => PkiError::Write { path: path.to_path_buf(), source },
            }
        })
    };
    let key = create(&paths.key, 0o600)?;
    match create(&paths.certificate, 0o644) {
        Ok(certificate) => Ok((certificate, key)),
        Err(error) => {
            fs::remove_file(&paths.key)
                .map_err(|source| PkiError::Write { path: paths.key.clone(), source })?;
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn authority_in(dir: &Path) -> Written {
        init(&Init { dir: dir.to_path_buf(), days: 3650 }).unwrap()
    }

    fn node(dir: &Path, name: &str) -> Issue {
        let addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        Issue { dir: dir.to_path_buf(), name: name.into(), addresses, days: 365, out: None }
    }

    fn der(path: &Path) -> Vec<u8> {
        parse_x509_pem(&fs::read(path).unwrap()).unwrap().1.contents
    }

    #[test]
    fn a_node_certificate_is_signed_and_names_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let authority = der(&authority_in(dir.path()).certificate);
        let authority = X509Certificate::from_der(&authority).unwrap().1;
        let node = der(&issue(&node(dir.path(), "worker-a")).unwrap().certificate);
        let node = X509Certificate::from_der(&node).unwrap().1;

        node.verify_signature(Some(authority.public_key())).unwrap();
        assert!(node.validity().is_valid());
        let names = &node.subject_alternative_name().unwrap().unwrap().value.general_names;
        let dns: Vec<_> = names.iter().filter(|name| matches!(name, GeneralName::DNSName(_))).collect();
        assert_eq!(dns, [&GeneralName::DNSName("worker-a")]);
        assert_eq!(names.len(), 3, "two addresses beside the name");
        let usage = node.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth);
        assert!(!node.is_ca());
    }

    #[test]
    fn keys_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = [authority_in(dir.path()).key, issue(&node(dir.path(), "a")).unwrap().key];
        for key in keys {
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600, "{}", key.display());
        }
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority_in(dir.path());
        let before = fs::read(&authority.key).unwrap();
        let again = init(&Init { dir: dir.path().into(), days: 1 });
        assert!(matches!(again, Err(PkiError::Exists(path)) if path == authority.key));
        assert_eq!(fs::read(&authority.key).unwrap(), before);

        fs::write(dir.path().join("a.crt"), "somebody's").unwrap();
        let issued = issue(&node(dir.path(), "a"));
        assert!(matches!(issued, Err(PkiError::Exists(path)) if path.ends_with("a.crt")));
        assert!(!dir.path().join("a.key").exists());
    }

    #[test]
    fn a_certificate_that_has_ended_can_be_had() {
        let dir = tempfile::tempdir().unwrap();
        authority_in(dir.path());
        let ended = issue(&Issue { days: -1, ..node(dir.path(), "a") }).unwrap();
        let ended = der(&ended.certificate);
        let validity = X509Certificate::from_der(&ended).unwrap().1.validity().clone();
        assert!(validity.not_before < validity.not_after);
        assert!(!validity.is_valid());
    }

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        authority_in(dir.path());
        for bad in ["", "a/b", "../a", "a b", "-a", "a..b"] {
            assert!(matches!(issue(&node(dir.path(), bad)), Err(PkiError::Name(_))), "{bad:?}");
        }
    }

    #[test]
    fn an_authority_must_be_whole() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(matches!(issue(&node(one.path(), "a")), Err(PkiError::Read { .. })));

        let (mine, theirs) = (authority_in(one.path()), authority_in(other.path()));
        fs::copy(&theirs.key, &mine.key).unwrap();
        assert!(
            matches!(issue(&node(one.path(), "a")), Err(PkiError::Authority { path, .. }) if path == mine.key)
        );

        fs::write(&mine.certificate, "not PEM").unwrap();
        let error = issue(&node(one.path(), "a")).unwrap_err();
        assert!(matches!(&error, PkiError::Authority { path, .. } if *path == mine.certificate), "{error}");
    }
}

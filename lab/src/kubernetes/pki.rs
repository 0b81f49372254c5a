//! Who is who in a lab's cluster: an authority, a certificate for each part, and the kubeconfigs that carry them.
//!
//! The names are those that Kubernetes itself knows: RBAC's default bindings and the Node authorizer go by them.
//! <https://kubernetes.io/docs/setup/best-practices/certificates/>

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use super::{API_SERVER, SERVICE_ADDRESS};
use crate::error::{At, LabError, Result};
use crate::network::CLIENT_ADDRESS;
use crate::{NODES, dirs};

/// Of a part of the cluster.
struct Identity {
    /// The name of its files.
    file: String,
    user: String,
    group: Option<&'static str>,
    /// Host names and IP addresses at which it serves.
    serves_at: Vec<String>,
}

impl Identity {
    fn client(file: &str, user: &str, group: Option<&'static str>) -> Self {
        Identity { file: file.to_owned(), user: user.to_owned(), group, serves_at: vec![] }
    }
}

fn identities() -> Vec<Identity> {
    let masters = Some("system:masters");
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    let addresses = [CLIENT_ADDRESS, SERVICE_ADDRESS, "127.0.0.1"];
    let serves_at = names.into_iter().chain(addresses).map(str::to_owned).collect();
    let mut all = vec![
        Identity { serves_at, ..Identity::client("kube-apiserver", "kube-apiserver", None) },
        Identity::client("kube-apiserver-kubelet-client", "kube-apiserver-kubelet-client", masters),
        Identity::client("admin", "kubernetes-admin", masters),
        Identity::client("kube-controller-manager", "system:kube-controller-manager", None),
        Identity::client("kube-scheduler", "system:kube-scheduler", None),
        Identity::client("kube-proxy", "system:kube-proxy", None),
    ];
    all.extend(NODES.map(|node| Identity {
        file: format!("kubelet-{node}"),
        user: format!("system:node:{node}"),
        group: Some("system:nodes"),
        serves_at: vec![node.to_string(), node.address().to_owned()],
    }));
    all
}

/// Makes them in that folder, unless they are there: `ca.crt`, `NAME.crt`, `NAME.key` and `NAME.kubeconfig` of each part,
/// and `service-accounts.key` and `.pub`.
pub(super) fn ensure(folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let unfinished = folder.with_extension("unfinished");
    dirs::remove_tree(&unfinished)?;
    fs::create_dir_all(&unfinished).at("make", &unfinished)?;
    for (name, text) in files().map_err(|e| LabError::Broken(format!("could not make certificates: {e}")))? {
        write_secret(&unfinished.join(name), &text)?;
    }
    fs::rename(&unfinished, folder).at("rename", &unfinished)
}

/// All files, by name.
fn files() -> Result<Vec<(String, String)>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name("kubernetes-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let service_accounts = KeyPair::generate()?;
    let mut files = vec![
        ("ca.crt".to_owned(), authority.pem()),
        ("service-accounts.key".to_owned(), service_accounts.serialize_pem()),
        ("service-accounts.pub".to_owned(), service_accounts.public_key_pem()),
    ];
    for identity in identities() {
        let key = KeyPair::generate()?;
        let certificate = params_of(&identity)?.signed_by(&key, &authority)?.pem();
        let (key, file) = (key.serialize_pem(), identity.file);
        files.push((format!("{file}.kubeconfig"), kubeconfig(&authority.pem(), &certificate, &key)));
        files.push((format!("{file}.crt"), certificate));
        files.push((format!("{file}.key"), key));
    }
    Ok(files)
}

fn params_of(identity: &Identity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(&identity.user, identity.group);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !identity.serves_at.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    for name in &identity.serves_at {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    Ok(params)
}

fn distinguished_name(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

/// All in one file, so that it can be copied about. JSON is YAML too.
fn kubeconfig(authority: &str, certificate: &str, key: &str) -> String {
    let [authority, certificate, key] = [authority, certificate, key].map(|pem| BASE64_STANDARD.encode(pem));
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": { "server": API_SERVER, "certificate-authority-data": authority },
        }],
        "users": [{
            "name": "lab",
            "user": { "client-certificate-data": certificate, "client-key-data": key },
        }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        "current-context": "lab",
    })
    .to_string()
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_certificate_of_its_own_and_is_asked_for_once() {
        let files = files().unwrap();
        let text = |name: &str| &files.iter().find(|(file, _)| file == name).unwrap().1;
        let config: serde_json::Value = serde_json::from_str(text("kubelet-a.kubeconfig")).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://10.77.0.1:6443");
        let embedded = config["users"][0]["user"]["client-certificate-data"].as_str().unwrap();
        assert_eq!(BASE64_STANDARD.decode(embedded).unwrap(), text("kubelet-a.crt").as_bytes());
        let mut names: Vec<_> = files.iter().map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), files.len());
    }

    #[test]
    fn a_kubelet_serves_at_its_nodes_address_and_an_administrator_nowhere() {
        let all = identities();
        let of = |file: &str| params_of(all.iter().find(|one| one.file == file).unwrap()).unwrap();
        let kubelet = of("kubelet-b");
        assert!(kubelet.subject_alt_names.contains(&SanType::IpAddress("10.77.0.12".parse().unwrap())));
        assert!(kubelet.extended_key_usages.contains(&ExtendedKeyUsagePurpose::ServerAuth));
        assert!(!of("admin").extended_key_usages.contains(&ExtendedKeyUsagePurpose::ServerAuth));
    }
}

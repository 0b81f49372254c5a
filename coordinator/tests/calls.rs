//! Calls to agents, over real mutual TLS.
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod pretend;

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use pretend::{Pretend, serve};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use transship_coordinator::agents::{Agents, Failure};
use transship_proto::v1::{BeginRequest, Outcome, migrate_event::Event};
use transship_transfer::IdentityPaths;

/// An authority with certificates for those names, as NAME.crt and NAME.key.
fn authority(names: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |file: String, text: String| fs::write(folder.path().join(file), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "a test's authority");
    write("ca.crt".into(), params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![(*name).to_owned()]).unwrap();
        write(format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
        write(format!("{name}.key"), key.serialize_pem());
    }
    folder
}

fn coordinator(pki: &Path, port: u16) -> Agents {
    let file = |name: &str| pki.join(name);
    let paths = IdentityPaths {
        ca: file("ca.crt"),
        certificate: file("transship-coordinator.crt"),
        key: file("transship-coordinator.key"),
    };
    Agents::new(paths, port)
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({"metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}}))
    .unwrap()
}

#[tokio::test]
async fn a_migration_is_begun_followed_and_forgotten() {
    let pki = authority(&["transship-coordinator", "a"]);
    let pretend = Pretend::ending(Outcome { migrated: true, ..Outcome::default() }, Duration::ZERO);
    let port = serve(pretend.clone(), pki.path(), "a", ([127, 0, 0, 1], 0).into()).await;
    let (agents, a) = (coordinator(pki.path(), port), node("a"));

    assert!(matches!(agents.watch(&a, "m").await, Err(Failure::Unknown(_))), "not begun yet");
    assert!(matches!(agents.cancel(&a, "m").await, Err(Failure::Unknown(_))));
    let asked =
        BeginRequest { migration: "m".into(), target: "10.0.0.2:7443".into(), ..BeginRequest::default() };
    agents.begin(&a, asked.clone()).await.unwrap();
    assert_eq!(pretend.begun(), [asked]);

    let mut events = agents.watch(&a, "m").await.unwrap();
    let mut last = None;
    while let Some(event) = events.message().await.unwrap() {
        last = event.event;
    }
    assert!(matches!(last, Some(Event::Outcome(outcome)) if outcome.migrated));

    agents.forget(&a, "m").await.unwrap();
    agents.forget(&a, "m").await.expect("what is unknown is forgotten");
    assert_eq!(pretend.begun(), []);
}

#[tokio::test]
async fn an_agent_of_another_node_at_that_address_is_not_believed() {
    let pki = authority(&["transship-coordinator", "a", "b"]);
    let port = serve(Pretend::default(), pki.path(), "b", ([127, 0, 0, 1], 0).into()).await;
    let failure = coordinator(pki.path(), port).describe(&node("a")).await.unwrap_err();
    assert_eq!(failure.refusal().reason, "WrongCertificate");
}

#[tokio::test]
async fn nobody_at_the_address_is_told_as_such() {
    let pki = authority(&["transship-coordinator"]);
    let failure = coordinator(pki.path(), 1).describe(&node("a")).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Unreachable(why) if why.message.contains("127.0.0.1:1")),
        "{failure:?}"
    );
}

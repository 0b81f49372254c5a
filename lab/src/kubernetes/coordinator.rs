//! transship's coordinator beside the control plane, with what the cluster has to know of it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{ADMIN_CONFIG, Kubernetes};
use crate::error::{At, Result};
use crate::network::CLIENT_ADDRESS;
use crate::{command, wait};

const COORDINATOR: &str = "transship-coordinator";
const PLUGIN: &str = "kubectl-migrate";
/// The folders of `deploy/` that are applied, in this order.
const MANIFESTS: [&str; 3] = ["crd", "rbac", "policies"];
/// The namespace of its Lease.
const NAMESPACE: &str = "transship-system";
/// Where it says how it is.
const HEALTH: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9443);
/// What it says when it leads.
const LEADS: &str = "transship_coordinator_leads 1";

impl Kubernetes<'_> {
    /// Applies `deploy/` of the project, gives the client the coordinator and `kubectl migrate`, starts the coordinator
    /// and waits until it leads.
    pub fn install_coordinator(&self, deploy: &Path) -> Result<()> {
        let client = self.lab.client();
        let programs = self.lab.programs();
        client.install(&[programs.join(COORDINATOR), programs.join(PLUGIN)])?;
        let pki = self.lab.identities();
        let (certificate, key) = (format!("{COORDINATOR}.crt"), format!("{COORDINATOR}.key"));
        if !pki.join(&certificate).exists() {
            let mut issue = Command::new(programs.join("transship"));
            issue
                .args(["pki", "issue", "--name", COORDINATOR, "--address", CLIENT_ADDRESS, "--dir"])
                .arg(&pki);
            command::output(&mut issue)?;
        }
        for (from, to) in [("ca.crt", "ca.crt"), (&certificate, "coordinator.crt"), (&key, "coordinator.key")]
        {
            let from = pki.join(from);
            client.write(&format!("/etc/transship/{to}"), fs::read(&from).at("read", from)?)?;
        }
        self.apply(&namespace())?;
        for folder in MANIFESTS {
            for manifest in manifests(&deploy.join(folder))? {
                self.apply(&manifest)?;
            }
        }
        self.start_coordinator()
    }

    /// Starts the coordinator unless it runs, and waits until it leads.
    pub fn start_coordinator(&self) -> Result<()> {
        let client = self.lab.client();
        if !client.daemon_runs(COORDINATOR)? {
            let (config, health) = (format!("KUBECONFIG={ADMIN_CONFIG}"), HEALTH.to_string());
            let call = ["env", &config, COORDINATOR, "run", "--namespace", NAMESPACE, "--health", &health];
            client.start_daemon(COORDINATOR, &call)?;
        }
        // The lease of one that was killed has to run out first.
        let leads = wait::until("a coordinator that leads", Duration::from_secs(60), || {
            // Until it listens, there is nothing to go by.
            let metrics = client.in_network(metrics)?.unwrap_or_default();
            Ok(metrics.lines().any(|line| line == LEADS).then_some(()))
        });
        leads.map_err(|error| client.with_log(error, COORDINATOR))
    }

    /// Sends the coordinator SIGKILL and returns when it is gone.
    pub fn kill_coordinator(&self) -> Result<()> {
        self.lab.client().kill_daemon(COORDINATOR)
    }

    /// What the coordinator has said so far.
    pub fn coordinator_log(&self) -> Result<String> {
        self.lab.client().log(COORDINATOR)
    }
}

fn namespace() -> String {
    serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string()
}

/// The manifests of a folder, in the order of their names.
fn manifests(folder: &Path) -> Result<Vec<String>> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files.into_iter().map(|file| fs::read_to_string(&file).at("read", file)).collect()
}

fn metrics() -> io::Result<String> {
    let mut stream = TcpStream::connect(HEALTH)?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

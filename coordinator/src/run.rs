//! The coordinator as a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use transship_transfer::{Identity, IdentityPaths};

use crate::agents::Agents;
use crate::cluster::Cluster;
use crate::controller;
use crate::health;
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::nodes::report_nodes;
use crate::stale::watch_the_watch;

/// The name that agents know the coordinator by: the one DNS name in its certificate.
const NAME: &str = "transship-coordinator";
/// How long the API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long steps that have begun may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What the coordinator is told. The API server is found as kubectl finds it (`KUBECONFIG`), or from within a Pod.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The namespace that the coordinator itself is in: its Lease is there.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = "transship-system")]
    namespace: String,
    /// This coordinator's name among several; must be no other's.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    identity: Option<String>,
    /// The authority that agents' certificates must come from.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/ca.crt")]
    ca: PathBuf,
    /// The coordinator's certificate, issued to `transship-coordinator`.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/coordinator.crt")]
    certificate: PathBuf,
    /// Its key.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/coordinator.key")]
    key: PathBuf,
    /// Where agents listen, on every node's InternalIP.
    #[arg(long, value_name = "PORT", default_value_t = 7443)]
    agent_port: u16,
    /// Where `/livez`, `/readyz` and `/metrics` are, over plain HTTP.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9443")]
    health: SocketAddr,
}

/// Leads when it can, and brings migrations on while it does, until SIGTERM or SIGINT.
///
/// # Errors
/// When it can't begin, or has lost the lease: whoever started it starts it again.
pub async fn run(settings: Settings) -> Result<()> {
    let paths = IdentityPaths {
        ca: settings.ca.clone(),
        certificate: settings.certificate.clone(),
        key: settings.key.clone(),
    };
    let identity = Identity::load(&paths).context("the coordinator's identity can't be used")?;
    if identity.name() != NAME {
        bail!(
            "the certificate is {}'s and agents listen to {NAME} only: issue one of that name",
            identity.name()
        );
    }
    let mut config = Config::infer().await.context("no API server is known; set KUBECONFIG")?;
    config.connect_timeout = Some(CONNECT);
    let client = Client::try_from(config).context("the API server can't be used")?;

    let metrics = Metrics::new();
    let serving = health::serve(settings.health, metrics.clone());
    let working = work(&settings, client, Agents::new(paths, settings.agent_port), metrics);
    tokio::select! {
        ended = working => ended,
        Err(error) = serving => Err(error).with_context(|| format!("nothing can be served at {}", settings.health)),
    }
}

async fn work(settings: &Settings, client: Client, agents: Agents, metrics: Metrics) -> Result<()> {
    let me = settings.identity.clone().map_or_else(host_and_process, Ok)?;
    let mut candidate = Candidate::new(client.clone(), &settings.namespace, NAME, &me);
    let mut told = told_to_end()?;
    tokio::select! {
        () = candidate.elected() => {}
        _ = told.changed() => return Ok(()),
    }
    metrics.leads(true);
    let cluster = Cluster::new(client.clone(), candidate.term(), &me);
    let (comparing, compared) = tokio::sync::oneshot::channel();
    let mut ending = told.clone();
    let controller = controller::run(
        client,
        cluster.clone(),
        agents.clone(),
        metrics.clone(),
        |store, poke| drop(comparing.send((store, poke))),
        async move { drop(ending.changed().await) },
    );
    let reporting = report_nodes(cluster.clone(), agents, settings.namespace.clone());
    let comparing = async {
        if let Ok((store, poke)) = compared.await {
            watch_the_watch(cluster, store, poke, metrics.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(controller);
    let ended = tokio::select! {
        ended = &mut controller => ended.context("migrations can't be brought on"),
        () = candidate.lead() => bail!("the lease was lost; another coordinator may lead"),
        () = comparing => Ok(()),
        () = reporting => Ok(()),
        _ = told.changed() => {
            info!("the coordinator was told to end");
            match tokio::time::timeout(DRAIN, &mut controller).await {
                Ok(ended) => ended.context("migrations can't be brought on"),
                Err(_) => {
                    warn!("steps are still being done; whoever leads next does them again");
                    Ok(())
                }
            }
        }
    };
    candidate.give_back().await;
    ended
}

fn host_and_process() -> Result<String> {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_str().context("the host's name is no text; give --identity")?;
    Ok(format!("{host}-{}", std::process::id()))
}

fn told_to_end() -> Result<watch::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be listened for")?;
    let (tell, told) = watch::channel(());
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(());
        tell.closed().await;
    });
    Ok(told)
}

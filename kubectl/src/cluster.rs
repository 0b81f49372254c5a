//! Which cluster, and where in it.

use anyhow::{Context, Result, anyhow};
use kube::config::{Config, KubeConfigOptions};
use kube::core::response::StatusDetails;
use kube::{Api, Client, Error};
use transship_coordinator::api::PodMigration;

/// Where kubectl would look, too: KUBECONFIG, or ~/.kube/config.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The namespace; without it, the context's own.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The kubeconfig's context; without it, the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,
}

/// A cluster, and the namespace that is meant.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

impl Place {
    pub async fn connect(&self) -> Result<Cluster> {
        let config = match &self.context {
            None => Config::infer().await.context("no cluster is known; set KUBECONFIG")?,
            Some(_) => {
                let options =
                    KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
                Config::from_kubeconfig(&options).await.context("the kubeconfig can't be used")?
            }
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(config).context("the cluster can't be used")?, namespace })
    }
}

impl Cluster {
    pub fn migrations(&self) -> Api<PodMigration> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// What the API server says, as a person needs it.
pub fn told(error: Error) -> anyhow::Error {
    let named = |details: &StatusDetails| !details.name.is_empty();
    match error {
        // The path itself is unknown, and not an object of a kind that is known.
        Error::Api(status) if status.code == 404 && !status.details.as_ref().is_some_and(named) => {
            anyhow!("this cluster knows no such objects ({}): is transship installed there?", status.message)
        }
        Error::Api(status) => anyhow!("{}", status.message),
        other => anyhow!(other).context("the API server gives no answer"),
    }
}

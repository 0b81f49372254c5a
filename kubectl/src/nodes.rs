//! `kubectl migrate nodes`.

use anyhow::{Context, Result};
use comfy_table::{ContentArrangement, Table, presets};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use transship_coordinator::api::{NODES, NodeReport};
use transship_terminal::Exit;

use crate::cluster::{Place, told};

/// What `kubectl migrate nodes` is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the coordinator is.
    #[arg(long, value_name = "NAMESPACE", default_value = "transship-system")]
    system_namespace: String,
}

pub async fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let cluster = place.connect().await?;
    let api = Api::<ConfigMap>::namespaced(cluster.client, &arguments.system_namespace);
    let Some(map) = api.get_opt(NODES).await.map_err(told)? else {
        eprintln!(
            "nothing is known of the nodes yet: the coordinator writes it into the ConfigMap {NODES} in {}; does it run \
             there?",
            arguments.system_namespace
        );
        return Ok(Exit::Failed);
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["NODE", "CAPTURE", "KERNEL", "CRIU", "RUNTIME", "IN THE WAY"]);
    for (name, text) in map.data.unwrap_or_default() {
        let report: NodeReport =
            serde_json::from_str(&text).with_context(|| format!("what is known of {name} can't be read"))?;
        let problems =
            report.problems.iter().map(|problem| format!("{}: {}", problem.reason, problem.message));
        table.add_row([
            name,
            report.captures.join(", "),
            report.kernel,
            report.criu,
            report.runtime,
            problems.collect::<Vec<_>>().join("\n"),
        ]);
    }
    println!("{}", table.trim_fmt());
    Ok(Exit::Done)
}

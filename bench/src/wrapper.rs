//! What the OCI wrapper adds to a container that is none of its business.

use anyhow::Result;
use serde::Serialize;
use transship_lab::{Lab, NodeName, Workload};

use crate::usage::median;

/// A copy of the wrapper with `true` for its runtime, so that what is measured is the wrapper alone: for a `create`,
/// which reads the bundle and looks for markers, and for a command that is passed on at once. Prints, a line each, the
/// milliseconds of `true`, of the create and of the other.
const SCRIPT: &str = r#"set -e
bundle=/run/containerd/io.containerd.runtime.v2.task/k8s.io/$1; folder=/run/wrapper-alone
mkdir -p $folder; cp /usr/local/bin/transship-runtime $folder/; echo '{"runtime":"/usr/bin/true"}' > $folder/transship-runtime.json
ms() { local from=$EPOCHREALTIME; "$@"; local to=$EPOCHREALTIME; echo $(( ${to/./} - ${from/./} )); }
for i in $(seq 200); do
  echo $(ms /usr/bin/true) $(ms $folder/transship-runtime --root /run/r create --bundle $bundle x) $(ms $folder/transship-runtime --root /run/r state x)
done; rm -r $folder"#;

/// Milliseconds, medians of 200 in turns.
#[derive(Debug, Clone, Serialize)]
pub struct Wrapper {
    /// Added to a `create`.
    pub create_ms: f64,
    /// Added to any other command.
    pub other_ms: f64,
}

/// Measures on node a.
pub fn measure(lab: &Lab) -> Result<Wrapper> {
    let node = lab.node(NodeName::A);
    let container =
        lab.start(NodeName::A, &Workload::new("plain", "shell").with_arguments(["sleep", "3600"]))?;
    let out = node.run(&["bash", "-c", SCRIPT, "wrapper", &container.id])?;
    let rows: Vec<Vec<f64>> = out
        .lines()
        .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .collect();
    let column = |at: usize| median(rows.iter().filter_map(|row| row.get(at).copied())) / 1000.0;
    Ok(Wrapper { create_ms: column(1) - column(0), other_ms: column(2) - column(0) })
}

//! What a node can do, as everybody may see it.

use serde::{Deserialize, Serialize};
use transship_proto::v1::{Capture, DescribeResponse};

use crate::target::Refusal;

/// What a node's agent says of it, or why it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeReport {
    /// Ways to capture that work there, such as `direct`.
    pub captures: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
    /// CRIU's version.
    pub criu: String,
    /// The container runtime and the OCI runtime.
    pub runtime: String,
    /// What keeps Pods from being moved from or to it.
    pub problems: Vec<Problem>,
}

/// Something in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// CamelCase and stable.
    pub reason: String,
    /// What it is and how to mend it.
    pub message: String,
}

impl NodeReport {
    /// Of a node whose agent has answered, or not.
    pub fn of(said: Result<DescribeResponse, Refusal>) -> Self {
        let problem = |reason: String, message: String| Problem { reason, message };
        match said {
            Err(why) => Self { problems: vec![problem(why.reason, why.message)], ..Self::default() },
            Ok(said) => {
                let name =
                    |capture: Capture| capture.as_str_name().trim_start_matches("CAPTURE_").to_lowercase();
                let captures = said.captures().map(name).collect();
                let facts = said.facts.unwrap_or_default();
                Self {
                    captures,
                    kernel: facts.kernel,
                    criu: facts.criu_version,
                    runtime: format!("{}, {}", facts.runtime_version, facts.runtime),
                    problems: said.problems.into_iter().map(|one| problem(one.reason, one.message)).collect(),
                }
            }
        }
    }
}

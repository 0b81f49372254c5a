//! How the watchdog is called: the process outside the agent that thaws a workload, and calls for help, if the agent
//! is gone.

use std::ffi::OsString;
use std::path::Path;

use transship_decision::MigrationId;

use crate::node::Node;
use crate::plan::Side;

/// The arguments of `transship-watchdog` for one end of a migration.
pub fn arguments(node: &Node, migration: &MigrationId, side: &Side<'_>, work: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |flag: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        arguments.push(flag.into());
        arguments.push(value.as_ref().to_owned());
    };
    add("--state", &node.config.state);
    add("--run", &node.config.run);
    add("--migration", &migration.as_str());
    add("--agent-pid", &std::process::id().to_string());
    match side {
        Side::Source(plan) => {
            add("--side", &"source");
            add("--budget-ms", &plan.budget_ms.to_string());
            add("--cgroup", &plan.cgroup);
            add("--capture-cgroup", &work);
        }
        Side::Target => add("--side", &"target"),
    }
    let myself = std::env::current_exe().unwrap_or_else(|_| "transship".into());
    let recover = [myself.display().to_string(), "recover".into(), format!("--migration={migration}")];
    arguments.push("--recover".into());
    arguments.extend(recover.into_iter().chain(node.config.to_arguments()).map(OsString::from));
    arguments
}

//! What this host can do, and how to mend what it can't.
//!
//! Each check looks at one thing and gives a [`Finding`]. Where there is something to interpret, a pure function does
//! so, and the check around it only fetches.

mod agent;
mod certificates;
mod cgroup;
mod commands;
mod containerd;
mod criu;
mod finding;
mod kernel;
mod network;
mod privileges;
mod storage;
mod wrapper;

pub use finding::{Finding, Status};

use transship_decision::RunDir;

use crate::config::Config;

/// Looks at everything that an agent with these settings depends on, in the order in which one would mend it.
///
/// Changes nothing that lasts: a file is made and removed where the state is to lie.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        privileges::root(),
        privileges::needed(),
        privileges::sys_resource(),
        kernel::version(),
        kernel::time_namespaces(),
        kernel::memory_tracking(),
        cgroup::freezer(),
    ];
    findings.extend(criu::checks().await);
    findings.extend(containerd::checks(config).await);
    findings.extend(certificates::checks(&config.identity()));
    findings.extend([
        storage::state(&config.state),
        storage::run(&config.run),
        network::udp_buffers(),
        network::pipe_size(),
        agent::watchdog(&config.watchdog_program()),
        agent::answers(&RunDir::new(&config.run).agent_socket()).await,
    ]);
    findings
}

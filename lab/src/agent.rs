//! transship on the nodes: its programs, a certificate for each node, its agents.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::{At, Result};
use crate::node::{NODES, Node};
use crate::{command, dirs, wait};

/// The programs of a node, where the lab's folder of programs has them.
pub(crate) const PROGRAMS: [&str; 3] = ["transship", "transship-runtime", "transship-watchdog"];
/// Where a node's agent listens for calls from other nodes.
pub const AGENT_PORT: u16 = 7443;

const SOCKET: &str = "/run/transship/agent.sock";
const DAEMON: &str = "agent";

/// Whether the nodes run transship's agent once they are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Agents {
    /// They do, if the folder of programs has `transship`.
    Running,
    /// They don't until [`Node::start_agent`].
    Stopped,
}

impl Node {
    /// Starts the agent, which must not run yet, with these environment variables, and returns when it answers.
    pub fn start_agent(&self, environment: &[(&str, &str)]) -> Result<()> {
        let variables: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let listen = format!("--listen={}:{AGENT_PORT}", self.name().address());
        let mut call = vec!["env"];
        call.extend(variables.iter().map(String::as_str));
        call.extend(["transship", "agent", &listen]);
        let socket = self.path(SOCKET)?;
        // A killed agent leaves its socket, which would look like an answer to come.
        if socket.exists() {
            fs::remove_file(&socket).at("remove", &socket)?;
        }
        self.start_daemon(DAEMON, &call)?;
        wait::until(
            &format!("an answer of the agent on node {}", self.name()),
            Duration::from_secs(10),
            || Ok(UnixStream::connect(&socket).ok()),
        )
        .map(drop)
        .map_err(|error| self.with_log(error, DAEMON))
    }

    /// Sends the agent SIGKILL and returns when it is gone. What it has started stays.
    pub fn kill_agent(&self) -> Result<()> {
        self.kill_daemon(DAEMON)
    }

    /// What the agent has said so far.
    pub fn agent_log(&self) -> Result<String> {
        self.log(DAEMON)
    }

    /// Gives the node its certificate and key, and the authority's certificate, from the lab's folder of identities.
    pub(crate) fn install_identity(&self, identities: &Path) -> Result<()> {
        let folder = self.path("/etc/transship")?;
        fs::create_dir_all(&folder).at("make", &folder)?;
        for (from, to) in [
            ("ca.crt", "ca.crt"),
            (&format!("{}.crt", self.name()), "node.crt"),
            (&format!("{}.key", self.name()), "node.key"),
        ] {
            let from = identities.join(from);
            fs::copy(&from, folder.join(to)).at("copy", from)?;
        }
        Ok(())
    }
}

/// Makes an authority and a certificate for each node, unless they are there.
pub(crate) fn make_identities(transship: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let unfinished = folder.with_extension("unfinished");
    dirs::remove_tree(&unfinished)?;
    command::output(Command::new(transship).args(["pki", "init", "--dir"]).arg(&unfinished))?;
    for node in NODES {
        let mut issue = Command::new(transship);
        issue
            .args(["pki", "issue", "--name", node.as_str(), "--address", node.address(), "--dir"])
            .arg(&unfinished);
        command::output(&mut issue)?;
    }
    fs::rename(&unfinished, folder).at("rename", &unfinished)
}

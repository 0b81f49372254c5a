//! What an agent is told at its start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use transship_transfer::IdentityPaths;

/// The agent's settings; each has a default that fits a node with containerd.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where calls (TCP) and state (UDP) are taken.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
    /// How other agents reach this one; needed where `--listen` names no address of its own.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// The authority that both ends' certificates must come from.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/ca.crt")]
    pub ca: PathBuf,
    /// This node's certificate.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/node.crt")]
    pub certificate: PathBuf,
    /// This node's key.
    #[arg(long, value_name = "FILE", default_value = "/etc/transship/node.key")]
    pub key: PathBuf,
    /// Decisions, fences and plans: a folder on a disk that survives a reboot.
    #[arg(long, value_name = "DIR", default_value = transship_decision::StateDir::DEFAULT)]
    pub state: PathBuf,
    /// Sockets and images: a folder in memory.
    #[arg(long, value_name = "DIR", default_value = transship_decision::RunDir::DEFAULT)]
    pub run: PathBuf,
    /// The container runtime's CRI socket.
    #[arg(long, value_name = "SOCKET", default_value = "/run/containerd/containerd.sock")]
    pub cri: PathBuf,
    /// The watchdog's program; the default is `transship-watchdog` beside this one.
    #[arg(long, value_name = "FILE")]
    pub watchdog: Option<PathBuf>,
}

impl Config {
    /// Where this node's certificate, key and authority lie.
    pub fn identity(&self) -> IdentityPaths {
        IdentityPaths { ca: self.ca.clone(), certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// The program at `--watchdog`, or the one beside the agent's own.
    pub fn watchdog_program(&self) -> PathBuf {
        let beside =
            || std::env::current_exe().ok()?.parent().map(|folder| folder.join("transship-watchdog"));
        self.watchdog.clone().or_else(beside).unwrap_or_else(|| Path::new("transship-watchdog").to_path_buf())
    }

    /// The arguments that start another process of this program with the same settings.
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--listen={}", self.listen),
            format!("--ca={}", self.ca.display()),
            format!("--certificate={}", self.certificate.display()),
            format!("--key={}", self.key.display()),
            format!("--state={}", self.state.display()),
            format!("--run={}", self.run.display()),
            format!("--cri={}", self.cri.display()),
        ];
        arguments.extend(self.advertise.iter().map(|address| format!("--advertise={address}")));
        arguments.extend(self.watchdog.iter().map(|file| format!("--watchdog={}", file.display())));
        arguments
    }
}

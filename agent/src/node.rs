//! This node, as every part of the agent sees it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transship_decision::{RunDir, StateDir};
use transship_proto::{Fault, Reason};
use transship_transfer::{Endpoint, Identity, Settings};

use crate::config::Config;
use crate::pods::Handovers;
use crate::runtime::Cri;
use crate::sign::Signer;
use crate::source::Departures;
use crate::target::Arrivals;

/// How long the other end of a transfer may be silent until it counts as lost: well below the usual freeze budget, so
/// that what is told then is the loss and not the budget's end.
const SILENCE: Duration = Duration::from_secs(4);

/// Everything that the two ends of migrations share on one node.
#[derive(Debug)]
pub struct Node {
    /// What the agent was told.
    pub config: Config,
    /// This node's certificate and key.
    pub identity: Identity,
    /// Signs decisions.
    pub signer: Signer,
    /// What outlives a reboot.
    pub state: StateDir,
    /// What doesn't.
    pub run: RunDir,
    /// The container runtime.
    pub cri: Cri,
    /// State comes and goes here.
    pub endpoint: Endpoint,
    /// Migrations that leave this node.
    pub departures: Departures,
    /// Those of them that a coordinator follows.
    pub handovers: Handovers,
    /// Migrations that come to this node.
    pub arrivals: Arrivals,
    /// Everything that runs, so that the end can wait for it.
    pub tasks: TaskTracker,
    /// Cancelled when the agent is to end.
    pub shutdown: CancellationToken,
}

impl Node {
    /// Reads the identity and binds the transfer's socket to `transfer`. Must be called within the runtime.
    pub fn new(config: Config, transfer: std::net::SocketAddr) -> Result<Self, Fault> {
        let identity = Identity::load(&config.identity()).map_err(unusable_identity)?;
        let signer = Signer::load(&config.key)?;
        let settings = Settings { idle_timeout: SILENCE, ..Settings::default() };
        let endpoint = Endpoint::bind(transfer, &identity, settings).map_err(|error| {
            Fault::new(Reason::HostError, format!("the transfer's socket: {}", chain(&error)))
        })?;
        Ok(Self {
            state: StateDir::new(&config.state),
            run: RunDir::new(&config.run),
            cri: Cri::new(&config.cri)?,
            departures: Departures::default(),
            handovers: Handovers::default(),
            arrivals: Arrivals::default(),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            endpoint,
            signer,
            identity,
            config,
        })
    }

    /// This node's name, as its certificate has it.
    pub fn name(&self) -> &str {
        self.identity.name()
    }

    /// How other agents reach this one.
    pub fn address(&self) -> String {
        self.config.advertise.clone().unwrap_or_else(|| self.config.listen.to_string())
    }
}

fn unusable_identity(error: transship_transfer::identity::IdentityError) -> Fault {
    let what =
        format!("this node's identity can't be used: {}; `transship pki issue` makes one", chain(&error));
    Fault::new(Reason::WrongCertificate, what)
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

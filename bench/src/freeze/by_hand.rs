//! Freezing, dumping and restoring a container on node a as one would at a shell.

use anyhow::{Context, Result, bail};
use transship_lab::{Container, Lab, Node, NodeName};
use transship_proto::cri::{RemoveContainerRequest, StopContainerRequest};

use crate::counter::start;

const BUNDLE: &str = "/run/by-hand/bundle";

/// A place to restore copies into: a sandbox whose own container is gone, and that one's bundle.
pub struct ByHand<'a> {
    node: &'a Node,
    sandbox: Container,
}

/// How long each command took, in milliseconds.
#[derive(Debug)]
pub struct Times {
    pub pause_ms: f64,
    pub checkpoint_ms: f64,
    pub restore_ms: f64,
}

/// How CRIU keeps packets away from connections that it dumps.
#[derive(Debug, Clone, Copy)]
pub enum Lock {
    /// By a packet filter, as it does when it isn't told.
    Iptables,
    /// Not at all, as transship tells it.
    Skip,
}

impl Times {
    /// All that the workload has to wait for.
    pub fn total_ms(&self) -> f64 {
        self.pause_ms + self.checkpoint_ms + self.restore_ms
    }
}

impl<'a> ByHand<'a> {
    /// Makes it on node a, as the target of a migration would be made.
    pub fn prepare(lab: &'a Lab) -> Result<Self> {
        let node = lab.node(NodeName::A);
        let sandbox = start(lab, "by-hand", 1)?;
        let made = ByHand { node, sandbox };
        let id = &made.sandbox.id;
        node.run(&["bash", "-c", include_str!("bundle.sh"), "bundle", id, BUNDLE])?;
        let cri = node.cri()?;
        let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
        cri.call("StopContainer", async |mut client| client.stop_container(request).await)?;
        let request = RemoveContainerRequest { container_id: id.clone() };
        cri.call("RemoveContainer", async |mut client| client.remove_container(request).await)?;
        Ok(made)
    }

    /// Freezes, dumps and restores a container, and lets it go on as if nothing had been.
    pub fn freeze(&self, container: &str, lock: Lock) -> Result<Times> {
        let script = include_str!("by-hand.sh");
        let lock = match lock {
            Lock::Iptables => "iptables",
            Lock::Skip => "skip",
        };
        let said = self.node.run(&["bash", "-c", script, "by-hand", container, BUNDLE, lock])?;
        let micros = said.split_whitespace().map(|word| word.parse::<f64>());
        let micros: Vec<f64> = micros.collect::<Result<_, _>>().context("understand the times by hand")?;
        let [pause, checkpoint, restore] = micros[..] else { bail!("three times by hand, not {said:?}") };
        Ok(Times { pause_ms: pause / 1e3, checkpoint_ms: checkpoint / 1e3, restore_ms: restore / 1e3 })
    }
}

impl Drop for ByHand<'_> {
    fn drop(&mut self) {
        let unmount = self.node.run(&["umount", &format!("{BUNDLE}/rootfs"), BUNDLE]).map(drop);
        let removed = self.node.cri().and_then(|cri| cri.remove_pod(&self.sandbox.pod_id));
        if let Err(error) = unmount.and(removed) {
            eprintln!("bench: what was used by hand is left in the lab: {error}");
        }
    }
}

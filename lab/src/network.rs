//! The wire between the machines: a bridge in the client's network namespace and a link to each node.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{LabError, Result};
use crate::kubernetes::SERVICE_NETWORK;
use crate::machine::Machine;
use crate::{NODES, NodeName, command};

/// The address of the client, which is the nodes' gateway too. The same in every lab: each has its own network.
pub const CLIENT_ADDRESS: &str = "10.77.0.1";

/// What the link of each node is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// What a node may send; `None`: as fast as the machine can.
    pub rate: Option<Rate>,
    /// Round-trip time between the nodes, half of it added on each way.
    pub latency: Option<Duration>,
}

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate(u64);

impl FromStr for Rate {
    type Err = LabError;

    /// As tc(8) writes it: `500mbit`, `1gbit`.
    fn from_str(text: &str) -> Result<Self> {
        let units = [("kbit", 1_000), ("mbit", 1_000_000), ("gbit", 1_000_000_000)];
        let rate = units.iter().find_map(|(unit, factor)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
            number.checked_mul(*factor).filter(|rate| *rate > 0)
        });
        rate.map(Rate).ok_or_else(|| LabError::Usage(format!("`{text}` is no rate: write 500mbit or 1gbit")))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}bit", self.0)
    }
}

/// Gives the client its bridge and its routes to the Pods.
pub(crate) fn connect_client(client: &Machine, mtu: u32) -> Result<()> {
    let mut batch = format!(
        "link add br0 type bridge\nlink set br0 mtu {mtu} up\naddress add {CLIENT_ADDRESS}/24 dev br0\n"
    );
    for node in NODES {
        batch += &format!("route add {} via {}\n", node.pod_network(), node.address());
    }
    ip(client, &batch)
}

/// Lets the client reach a cluster's Services, by way of the first node.
pub(crate) fn route_services(client: &Machine) -> Result<()> {
    let [node, _] = NODES;
    ip(client, &format!("route add {SERVICE_NETWORK} via {}\n", node.address()))
}

/// Joins a node that has just started to the bridge.
pub(crate) fn connect_node(client: &Machine, machine: &Machine, node: NodeName, mtu: u32) -> Result<()> {
    let pid = machine.pid_in_host()?;
    ip(
        client,
        &format!(
            // A rebooted node has the hardware address that its neighbours remember.
            "link add to-{node} mtu {mtu} type veth peer name eth0 address {} mtu {mtu} netns {pid}\n\
             link set to-{node} master br0 up\n",
            node.hardware_address()
        ),
    )?;
    let peer = node.peer();
    ip(
        machine,
        &format!(
            "address add {}/24 dev eth0\nlink set eth0 up\nroute add default via {CLIENT_ADDRESS}\n\
             route add {} via {}\n",
            node.address(),
            peer.pod_network(),
            peer.address()
        ),
    )
}

/// Gives a node's link its rate and latency, in place of what it had.
pub(crate) fn shape(machine: &Machine, link: Link) -> Result<()> {
    let existing = command::output(machine.command("tc")?.args(["qdisc", "show", "dev", "eth0"]))?;
    if existing.contains(" root ") && !existing.contains("noqueue") {
        command::output(machine.command("tc")?.args(["qdisc", "delete", "dev", "eth0", "root"]))?;
    }
    let Some(discipline) = discipline(link) else { return Ok(()) };
    let mut tc = machine.command("tc")?;
    tc.args(["qdisc", "add", "dev", "eth0", "root"]).args(discipline.split(' '));
    command::output(&mut tc).map(drop).map_err(|error| match &error {
        LabError::Command { output, .. } if output.contains("qdisc kind is unknown") => LabError::Machine {
            what: format!("its kernel lacks the queueing discipline of `tc qdisc … {discipline}`"),
            mend: "load sch_netem or sch_tbf, or leave out --latency or --link",
        },
        _ => error,
    })
}

/// The arguments of `tc qdisc add … root`. Each node shapes what it sends, so both ways are shaped.
fn discipline(link: Link) -> Option<String> {
    let rate = link.rate.map(|rate| format!(" rate {rate}")).unwrap_or_default();
    match (link.latency, link.rate) {
        (None, None) => None,
        // A packet queue that holds what a fast link has in flight.
        (Some(latency), _) => Some(format!("netem delay {}us limit 50000{rate}", latency.as_micros() / 2)),
        // The bucket holds what the rate sends between two timer ticks of 10 ms, and one 64 KiB GSO packet at least.
        (None, Some(Rate(bits))) => {
            Some(format!("tbf{rate} burst {} latency 50ms", (bits / 800).max(128 << 10)))
        }
    }
}

fn ip(machine: &Machine, batch: &str) -> Result<()> {
    let mut ip = machine.command("ip")?;
    command::output_with_input(ip.args(["-batch", "-"]), batch).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_tc_writes_them() {
        assert_eq!("1gbit".parse::<Rate>().unwrap().to_string(), "1000000000bit");
        for wrong in ["", "1", "gbit", "-1mbit", "0mbit", "99999999999999gbit"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn latency_takes_netem_and_a_rate_alone_a_token_bucket() {
        let rate = Some(Rate(1_000_000_000));
        let latency = Some(Duration::from_millis(20));
        assert_eq!(discipline(Link::default()), None);
        assert_eq!(
            discipline(Link { rate, latency: None }).as_deref(),
            Some("tbf rate 1000000000bit burst 1250000 latency 50ms")
        );
        assert_eq!(
            discipline(Link { rate, latency }).as_deref(),
            Some("netem delay 10000us limit 50000 rate 1000000000bit")
        );
    }
}

//! One TCP stream by iperf3: what TCP gives here at most.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use transship_lab::Node;

const PORT: &str = "7501";

/// Bytes per second that arrive when `mib` are sent from `a` to `b`.
pub fn once(a: &Node, b: &Node, mib: u64) -> Result<f64> {
    let mut server = b.command("iperf3")?;
    server.args(["--server", "--one-off", "--port", PORT, "--forceflush"]);
    let mut server = server.stdout(Stdio::piped()).spawn().context("start iperf3")?;
    let mut said = BufReader::new(server.stdout.take().context("iperf3 says nothing")?);
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        anyhow::ensure!(said.read_line(&mut line)? > 0, "iperf3's server ended before it listened");
    }
    let bytes = format!("{mib}M");
    let out =
        a.run(&["iperf3", "--json", "--client", b.name().address(), "--port", PORT, "--bytes", &bytes])?;
    std::io::copy(&mut said, &mut std::io::sink())?;
    server.wait()?;
    let json: Value = serde_json::from_str(&out)?;
    let bits = json.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    Ok(bits.context("iperf3 tells no rate")? / 8.0)
}

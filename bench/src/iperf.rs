//! One TCP stream by iperf3: what TCP gives here at most.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use transship_lab::Node;

use crate::usage::Cost;

const PORT: &str = "7501";

/// What it costs to send `mib` of nothing in particular from `a` to `b`; the CPU time is that of both ends.
pub fn once(a: &Node, b: &Node, mib: u64) -> Result<Cost> {
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
    let figure = |pointer: &str| {
        let value = json.pointer(pointer).and_then(Value::as_f64);
        value.with_context(|| format!("iperf3 tells no {pointer}"))
    };
    let seconds = figure("/end/sum_received/seconds")?;
    let percent = ["host", "remote"].map(|end| figure(&format!("/end/cpu_utilization_percent/{end}_total")));
    let cpu_percent = percent.into_iter().sum::<Result<f64>>()?;
    Ok(Cost {
        bytes: figure("/end/sum_received/bytes")? as u64,
        seconds,
        cpu_seconds: cpu_percent / 100.0 * seconds,
        peak_mib: 0.0,
    })
}

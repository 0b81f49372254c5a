//! One transfer's two ends, and all ways beside each other between the lab's nodes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde::Serialize;
use transship_lab::{Lab, Node, NodeName};
use transship_transfer::{Endpoint, Identity, Limits, Sender, Settings};

use crate::usage::{Cost, cpu_seconds, median, peak_mib};
use crate::{Common, Way, iperf, quinn_plain};

/// What the sink says when it can be sent to.
const READY: &str = "ready";
const PORT: u16 = 7500;
/// Where the bench's program and files lie on the nodes: in memory.
const FOLDER: &str = "/run/bench";

/// Medians of one way.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Bytes of content per second.
    pub goodput: f64,
    /// CPU seconds of both ends for a GiB of content.
    pub cpu_seconds_per_gib: f64,
    /// The larger end's peak memory, in MiB; 0 where the way doesn't tell.
    pub peak_mib: f64,
}

/// All ways, on the same bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// transship's transfer.
    pub transship: Measured,
    /// Bare quinn.
    pub quinn: Measured,
    /// One TCP stream.
    pub iperf3: Measured,
}

/// Takes one transfer in.
pub fn sink(listen: SocketAddr, common: &Common) -> Result<()> {
    let identity = Identity::load(&common.identity())?;
    runtime()?.block_on(async {
        let cost = match common.way {
            Way::Quinn => quinn_plain::sink(listen, &identity, || println!("{READY}")).await?,
            Way::Transship => {
                let endpoint = Endpoint::bind(listen, &identity, Settings::default())?;
                let mut listener = endpoint.listen();
                println!("{READY}");
                let incoming = listener.accept().await.context("the endpoint closed")??;
                let (begun, cpu) = (Instant::now(), cpu_seconds()?);
                let tree = incoming.accept(&common.folder, Limits::default()).await?.verified().await?;
                let seconds = begun.elapsed().as_secs_f64();
                endpoint.close().await;
                Cost {
                    bytes: tree.bytes().total,
                    seconds,
                    cpu_seconds: cpu_seconds()? - cpu,
                    peak_mib: peak_mib()?,
                }
            }
        };
        println!("{}", serde_json::to_string(&cost)?);
        Ok(())
    })
}

/// Sends all files of a folder.
pub fn source(to: SocketAddr, name: &str, common: &Common) -> Result<()> {
    let identity = Identity::load(&common.identity())?;
    let files = files_of(&common.folder)?;
    runtime()?.block_on(async {
        let cost = match common.way {
            Way::Quinn => quinn_plain::source(to, name, &identity, &files).await?,
            Way::Transship => {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let endpoint = Endpoint::bind(any.parse()?, &identity, Settings::default())?;
                let connection = endpoint.connect(to, name).await?;
                let (begun, cpu) = (Instant::now(), cpu_seconds()?);
                let sender = Sender::open(connection, Bytes::from_static(b"bench")).await?;
                for file in &files {
                    let leaf = file.file_name().unwrap_or_default().to_string_lossy();
                    sender.file(&leaf, 0o600, File::open(file)?).await?;
                }
                let sealed = sender.seal().await?;
                let seconds = begun.elapsed().as_secs_f64();
                endpoint.close().await;
                Cost {
                    bytes: sealed.bytes.total,
                    seconds,
                    cpu_seconds: cpu_seconds()? - cpu,
                    peak_mib: peak_mib()?,
                }
            }
        };
        println!("{}", serde_json::to_string(&cost)?);
        Ok(())
    })
}

/// `mib` of random data from a to b by each way, in turns.
pub fn compare(lab: &Lab, mib: u64, repeats: usize) -> Result<Compared> {
    let (a, b) = (lab.node(NodeName::A), lab.node(NodeName::B));
    for node in [a, b] {
        node.run(&["mkdir", "-p", &format!("{FOLDER}/data"), &format!("{FOLDER}/sink")])?;
        let program = node.path(format!("{FOLDER}/transship-bench"))?;
        std::fs::copy(std::env::current_exe()?, &program)
            .with_context(|| format!("copy to {}", program.display()))?;
    }
    a.run(&["sh", "-c", &format!("head -c {mib}M /dev/urandom > {FOLDER}/data/random")])?;
    let (mut ours, mut plain, mut tcp) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeats {
        ours.push(once(a, b, Way::Transship)?);
        plain.push(once(a, b, Way::Quinn)?);
        tcp.push((iperf::once(a, b, mib)?, Cost::default()));
    }
    for node in [a, b] {
        node.run(&["rm", "-r", FOLDER])?;
    }
    Ok(Compared { transship: medians(&ours), quinn: medians(&plain), iperf3: medians(&tcp) })
}

fn medians(costs: &[(Cost, Cost)]) -> Measured {
    let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
    let cpu = costs.iter().map(|(source, sink)| (source.cpu_seconds + sink.cpu_seconds) / gib(source.bytes));
    Measured {
        goodput: median(costs.iter().map(|(source, _)| source.bytes as f64 / source.seconds)),
        cpu_seconds_per_gib: median(cpu),
        peak_mib: median(costs.iter().map(|(source, sink)| source.peak_mib.max(sink.peak_mib))),
    }
}

fn once(a: &Node, b: &Node, way: Way) -> Result<(Cost, Cost)> {
    let program = format!("{FOLDER}/transship-bench");
    let mut sink = b.command(&program)?;
    sink.args(["sink", "--way", way.as_str(), "--folder", &format!("{FOLDER}/sink")]);
    sink.arg(format!("--listen={}:{PORT}", b.name().address()));
    let mut sink = sink.stdout(Stdio::piped()).spawn().context("start the sink")?;
    let said = expect_ready(&mut sink)?;
    let to = format!("--to={}:{PORT}", b.name().address());
    let folder = format!("{FOLDER}/data");
    let source = a.run(&[
        &program,
        "source",
        "--way",
        way.as_str(),
        "--folder",
        &folder,
        &to,
        "--name",
        b.name().as_str(),
    ])?;
    let sunk = last_line(said)?;
    if !sink.wait()?.success() {
        bail!("the sink failed; its own message says why");
    }
    b.run(&["sh", "-c", &format!("rm -rf {FOLDER}/sink/*")])?;
    Ok((serde_json::from_str(source.trim())?, serde_json::from_str(sunk.trim())?))
}

fn expect_ready(sink: &mut Child) -> Result<impl BufRead + use<>> {
    let mut said = BufReader::new(sink.stdout.take().context("the sink says nothing")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    if line.trim() != READY {
        bail!("the sink didn't come up; its own message says why");
    }
    Ok(said)
}

fn last_line(mut said: impl Read) -> Result<String> {
    let mut text = String::new();
    said.read_to_string(&mut text)?;
    Ok(text)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

//! Moves a file between two processes over loopback, and says what it cost:
//!
//! ```text
//! cargo run --release -p transship-transfer --example throughput -- [noise|text|zero] [MiB] [quinn]
//! ```
//!
//! With `quinn` the same bytes go through a bare quinn stream with quinn's default settings: not hashed, not verified,
//! thrown away on arrival.

#![allow(clippy::unwrap_used)] // An example: what fails ends it.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use transship_transfer::{Endpoint, Identity, IdentityPaths, Limits, Sender, Settings};

const ADDRESS: &str = "127.0.0.1:4791";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build().unwrap();
    if let [role, way, dir] = &arguments[..]
        && role == "sink"
    {
        runtime.block_on(sink(way, dir.as_ref()));
        return;
    }
    let data = arguments.first().map_or("noise", String::as_str);
    let bytes = arguments.get(1).map_or(1024, |mib| mib.parse::<usize>().unwrap()) << 20;
    let way = arguments.get(2).map_or("transship", String::as_str);

    // Both files in memory: it is the transfer that is measured.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    make_identities(dir.path());
    make_data(&dir.path().join("data"), data, bytes);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["sink", way])
        .arg(dir.path())
        .stdout(Stdio::inherit())
        .spawn()
        .unwrap();
    runtime.block_on(source(way, dir.path(), bytes));
    assert!(child.wait().unwrap().success());
}

/// Runtime threads of either process.
fn threads() -> usize {
    std::env::var("THREADS").map_or(1, |threads| threads.parse().unwrap())
}

async fn source(way: &str, dir: &Path, bytes: usize) {
    let identity = identity(dir, "a");
    let file = File::open(dir.join("data")).unwrap();
    let (began, cpu) = match way {
        "transship" => {
            let endpoint =
                Endpoint::bind("127.0.0.1:0".parse().unwrap(), &identity, Settings::default()).unwrap();
            let connection = endpoint.connect(ADDRESS.parse().unwrap(), "b").await.unwrap();
            let sender = Sender::open(connection, Bytes::from_static(b"throughput")).await.unwrap();
            let began = (Instant::now(), cpu_seconds());
            sender.file("data", 0o600, file).await.unwrap();
            println!("source: {:?}", sender.path());
            println!("source: {:?}", sender.seal().await.unwrap().bytes);
            began
        }
        _ => {
            let tls = identity.client_config(&[b"bare"]).unwrap();
            let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(
                QuicClientConfig::try_from(tls).unwrap(),
            )));
            let connection = endpoint.connect(ADDRESS.parse().unwrap(), "b").unwrap().await.unwrap();
            let mut stream = connection.open_uni().await.unwrap();
            let began = (Instant::now(), cpu_seconds());
            let mut file = tokio::io::BufReader::with_capacity(1 << 20, tokio::fs::File::from_std(file));
            tokio::io::copy_buf(&mut file, &mut stream).await.unwrap();
            stream.finish().unwrap();
            connection.closed().await;
            began
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    println!("{way}: {seconds:.2} s, {:.2} Gbit/s", bytes as f64 * 8e-9 / seconds);
    report("source", cpu_seconds() - cpu, bytes);
}

async fn sink(way: &str, dir: &Path) {
    let identity = identity(dir, "b");
    let (cpu, bytes) = match way {
        "transship" => {
            let endpoint = Endpoint::bind(ADDRESS.parse().unwrap(), &identity, Settings::default()).unwrap();
            let incoming = endpoint.listen().accept().await.unwrap().unwrap();
            let cpu = cpu_seconds();
            let target = dir.join("target");
            fs::create_dir(&target).unwrap();
            let receiving = incoming.accept(&target, Limits::default()).await.unwrap();
            (cpu, receiving.verified().await.unwrap().bytes().total as usize)
        }
        _ => {
            let tls = identity.server_config(&[b"bare"]).unwrap();
            let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
            let endpoint = quinn::Endpoint::server(config, ADDRESS.parse().unwrap()).unwrap();
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let mut stream = connection.accept_uni().await.unwrap();
            let cpu = cpu_seconds();
            let (mut total, mut buffer) = (0, vec![0; 256 << 10]);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await.map(Option::unwrap_or_default) {
                total += read;
            }
            connection.close(0u32.into(), b"");
            endpoint.wait_idle().await;
            (cpu, total)
        }
    };
    report("sink", cpu_seconds() - cpu, bytes);
}

fn report(end: &str, cpu: f64, bytes: usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().trim();
    let per_gib = cpu / (bytes as f64 / f64::from(1 << 30));
    println!("{end}: {per_gib:.2} CPU s/GiB, peak resident {peak} (anonymous at the end {anonymous})");
}

/// User and system time of this process (clock ticks of 10 ms; proc_pid_stat(5)).
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

fn make_data(path: &Path, kind: &str, bytes: usize) {
    let mut file = File::create(path).unwrap();
    let mut noise = blake3::Hasher::new().finalize_xof();
    let mut block = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        match kind {
            "noise" => noise.fill(&mut block),
            // An eighth of it is noise: memory images of real services shrink about so.
            "text" => block.chunks_mut(4096).for_each(|page| noise.fill(&mut page[..512])),
            _ => {}
        }
        file.write_all(&block).unwrap();
    }
}

fn make_identities(dir: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    for name in ["a", "b"] {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

fn identity(dir: &Path, name: &str) -> Identity {
    let paths = IdentityPaths {
        ca: dir.join("ca.pem"),
        certificate: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    Identity::load(&paths).unwrap()
}

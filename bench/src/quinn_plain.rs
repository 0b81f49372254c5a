//! A bare quinn stream with quinn's own settings: the bytes, and nothing else.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use transship_transfer::Identity;

use crate::usage::{Cost, cpu_seconds, peak_mib};

const ALPN: &[u8] = b"bench";
/// How much is read and written at once.
const PIECE: usize = 1 << 20;

/// Takes one stream and throws it away.
pub async fn sink(listen: SocketAddr, identity: &Identity, ready: impl FnOnce()) -> Result<Cost> {
    let tls = QuicServerConfig::try_from(identity.server_config(&[ALPN])?)?;
    let endpoint = Endpoint::server(ServerConfig::with_crypto(Arc::new(tls)), listen)?;
    ready();
    let connection = endpoint.accept().await.context("the endpoint closed")?.await?;
    let (mut answer, mut stream) = connection.accept_bi().await?;
    let (begun, cpu, mut bytes) = (Instant::now(), cpu_seconds()?, 0);
    while let Some(chunk) = stream.read_chunk(PIECE, true).await? {
        bytes += chunk.bytes.len() as u64;
    }
    let seconds = begun.elapsed().as_secs_f64();
    answer.write_all(b"done").await?;
    answer.finish()?;
    connection.closed().await;
    Ok(Cost { bytes, seconds, cpu_seconds: cpu_seconds()? - cpu, peak_mib: peak_mib()? })
}

/// Sends files one after the other, and waits until the sink has them.
pub async fn source(to: SocketAddr, name: &str, identity: &Identity, files: &[PathBuf]) -> Result<Cost> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let endpoint = Endpoint::client(any.parse()?)?;
    let tls = QuicClientConfig::try_from(identity.client_config(&[ALPN])?)?;
    let connection = endpoint.connect_with(ClientConfig::new(Arc::new(tls)), to, name)?.await?;
    let (mut stream, mut answer) = connection.open_bi().await?;
    let (begun, cpu, mut bytes) = (Instant::now(), cpu_seconds()?, 0);
    let mut piece = vec![0; PIECE];
    for file in files {
        let mut file = File::open(file).with_context(|| format!("open {}", file.display()))?;
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            stream.write_all(&piece[..read]).await?;
            bytes += read as u64;
        }
    }
    stream.finish()?;
    answer.read_to_end(16).await?;
    let seconds = begun.elapsed().as_secs_f64();
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(Cost { bytes, seconds, cpu_seconds: cpu_seconds()? - cpu, peak_mib: peak_mib()? })
}

//! A writer of OCI image archives: one layer, one manifest. Specification: github.com/opencontainers/image-spec.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{At, Result};
use crate::hash::hex;

/// What a container of an image runs, as in the `config` of an OCI image configuration.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageConfig {
    /// The program and the arguments that it always gets.
    pub entrypoint: Vec<String>,
    /// The arguments that a container may replace.
    pub cmd: Vec<String>,
    /// `NAME=VALUE` each.
    pub env: Vec<String>,
    /// `UID` or `UID:GID`; empty for root.
    pub user: String,
}

/// Writes the folder `rootfs` as an image named `reference` into the archive `out`.
pub fn write_archive(rootfs: &Path, reference: &str, config: &ImageConfig, out: &Path) -> Result<()> {
    // The layer's digest goes in front of the layer, so it is written to a file of its own first.
    let layer_file = tempfile::tempfile().at("create", std::env::temp_dir())?;
    let mut layer =
        tar::Builder::new(Hashing { inner: BufWriter::new(layer_file), hasher: Sha256::new(), size: 0 });
    layer.follow_symlinks(false);
    layer.append_dir_all(".", rootfs).at("pack", rootfs)?;
    let Hashing { inner, hasher, size } = layer.into_inner().at("pack", rootfs)?;
    let mut layer_file = inner.into_inner().map_err(io::IntoInnerError::into_error).at("pack", rootfs)?;
    io::Seek::rewind(&mut layer_file).at("read", rootfs)?;
    let layer = Blob { digest: hex(&hasher.finalize()), size };

    let (config, config_bytes) = Blob::of(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)] },
    }));
    let (manifest, manifest_bytes) = Blob::of(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
    }));
    let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    entry["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    entry["annotations"] = json!({ "io.containerd.image.name": reference });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();

    let file = File::create(out).at("create", out)?;
    let mut archive = Archive(tar::Builder::new(BufWriter::new(file)));
    archive
        .add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
        .and_then(|()| archive.add("index.json", index.as_bytes()))
        .and_then(|()| archive.add(&config.path(), &config_bytes))
        .and_then(|()| archive.add(&manifest.path(), &manifest_bytes))
        .and_then(|()| archive.add_from(&layer.path(), layer.size, layer_file))
        .and_then(|()| archive.0.into_inner()?.flush())
        .at("write", out)
}

/// A piece of an image, by its SHA-256 in hexadecimal.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn of(value: &Value) -> (Self, Vec<u8>) {
        let bytes = value.to_string().into_bytes();
        (Blob { digest: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64 }, bytes)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size })
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

struct Archive(tar::Builder<BufWriter<File>>);

impl Archive {
    fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.add_from(path, bytes.len() as u64, bytes)
    }

    fn add_from(&mut self, path: &str, size: u64, data: impl io::Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        self.0.append_data(&mut header, path, data)
    }
}

struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// This machine's architecture as Go, and so OCI, names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

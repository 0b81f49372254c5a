//! The frozen container becomes content: CRIU's images, the changes of its root file system, its shared memory.
//!
//! What is captured is a list of sources of content, each sent as soon as it is there. Every container's lies under a
//! folder of its name: `NAME/images/…`, `NAME/rootfs.tar`, `NAME/shm.tar`.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use transship_checkpoint::{archive, log, rootfs};
use transship_decision::Root;
use transship_proto::v1::Bytes;
use transship_proto::{Fault, Reason};
use transship_transfer::core::close::CloseCode;
use transship_transfer::quic::LinkError;
use transship_transfer::{Follow, SendError, Sender, TransferBytes};

use super::drive::{Migration, missing};
use crate::host::{Armed, blocking, failed};
use crate::node::chain;
use crate::runtime::{CRIU_CONFIG_VARIABLE, CheckpointOptions};

/// How often CRIU's growing page images are looked at. Splicing into a file on a tmpfs raises no event.
const TICK: Duration = Duration::from_millis(1);
/// What CRIU is told beyond runc's flags: connections are closed, those being made are skipped (a busy server always
/// has some), and open files that were deleted come along whatever their size.
///
/// Nor are packets dropped meanwhile: that is for connections that go on elsewhere. The peers of one that ends hear of
/// it when the source is killed, a source that runs on has missed nothing, and nobody waits for iptables to start.
const CRIU_CONFIG: &str = "tcp-close\nskip-in-flight\nnetwork-lock skip\nghost-limit 1073741824\n";

/// How many entries a checkpoint archive may have.
const ARCHIVE_ENTRIES: u64 = 100_000;

/// What has been captured.
#[derive(Debug, Default)]
pub struct Captured {
    /// Sizes, as far as they are known.
    pub bytes: Bytes,
}

impl Migration {
    /// Starts the process that will become `runc checkpoint`, in the capture's own cgroup.
    pub(super) fn arm_capture(&mut self) -> Result<(), Fault> {
        let workspace = self.workspace.as_ref().ok_or_else(|| missing("workspace"))?;
        let container = &self.cleared()?.container;
        let options = CheckpointOptions {
            images: workspace.folder("images")?,
            work: workspace.folder("work")?,
            criu_config: workspace.path().join("criu.conf"),
        };
        std::fs::write(&options.criu_config, CRIU_CONFIG).map_err(failed("writing CRIU's configuration"))?;
        let handler = crate::facts::Handler::of_program(&container.oci.program);
        let arguments = container.oci.checkpoint_arguments(&container.container_id, &options);
        let environment = [(CRIU_CONFIG_VARIABLE, options.criu_config.into_os_string())];
        let log = workspace.path().join("runc.log");
        let cgroup = self.capture_cgroup()?;
        let enter = |pid| cgroup.add(pid).map_err(|error| Fault::new(Reason::HostError, error.to_string()));
        self.armed = Some(Armed::new(&handler.runtime()?, &arguments, &environment, &log, enter)?);
        Ok(())
    }

    /// Dumps the frozen container and sends everything that is made, while it is made.
    pub(super) async fn capture(&mut self) -> Result<(), Fault> {
        let container = self.cleared()?.container.clone();
        let workspace = self.workspace.clone().ok_or_else(|| missing("workspace"))?;
        let sender = self.sender.as_ref().ok_or_else(|| missing("connection"))?;
        let name = container.name.as_str();
        let images = workspace.folder("images")?;

        // Both begin now, beside CRIU. What lies in /dev/shm CRIU takes for a mount from outside.
        let changes = pack(
            container.upper.clone(),
            workspace.path().join("rootfs.tar"),
            "the root file system's changes",
        );
        let shared = container
            .shm
            .clone()
            .map(|shm| pack(shm, workspace.path().join("shm.tar"), "the shared memory in /dev/shm"));
        let result = match self.armed.take() {
            Some(armed) => direct(armed, sender, name, &images, workspace.path()).await,
            None => self.through_cri(sender, name, &images).await,
        };
        if let Err(fault) = result {
            let dump_log = workspace.path().join("work/dump.log");
            return Err(self.explained(fault, &dump_log));
        }
        tracing::info!(container = name, "the images are on their way");
        for (packing, label) in [(Some(changes), "rootfs.tar"), (shared, "shm.tar")] {
            if let Some(packing) = packing {
                let file =
                    packing.await.map_err(|error| Fault::new(Reason::HostError, error.to_string()))??;
                sender.file(&format!("{name}/{label}"), 0o600, file).await.map_err(not_sent)?;
            }
        }
        Ok(())
    }

    /// The target has verified everything under this root.
    pub(super) async fn seal(&mut self) -> Result<Root, Fault> {
        let sender = self.sender.take().ok_or_else(|| missing("connection"))?;
        let sealed = sender.seal().await.map_err(not_sent)?;
        self.captured.bytes = sizes(sealed.bytes);
        self.events.progress(self.captured.bytes);
        Ok(Root(*sealed.root.as_bytes()))
    }

    /// The runtime's own checkpoint: an archive, unpacked here so that the target gets the same tree either way.
    async fn through_cri(&self, sender: &Sender, name: &str, images: &Path) -> Result<(), Fault> {
        let plan = self.plan()?;
        let workspace = self.workspace.as_ref().ok_or_else(|| missing("workspace"))?;
        let archive = workspace.path().join("archive.tar");
        let patience = Duration::from_millis(plan.budget_ms.into());
        self.node.cri.checkpoint(plan.container_id.as_str(), &archive, patience).await?;
        let unpacked = workspace.folder("archive")?;
        let (into, capacity) = (unpacked.clone(), self.cleared()?.capacity);
        blocking(move || {
            let file = File::open(&archive).map_err(failed("opening the runtime's checkpoint archive"))?;
            archive::unpack(file, &into, &archive::Caps { entries: ARCHIVE_ENTRIES, bytes: capacity })
                .map_err(|error| {
                    Fault::new(
                        Reason::CaptureFailed,
                        format!("the runtime's checkpoint archive: {}", chain(&error)),
                    )
                })?;
            std::fs::remove_file(&archive).map_err(failed("removing the runtime's checkpoint archive"))
        })
        .await?;
        let checkpoint = unpacked.join("checkpoint");
        std::fs::remove_dir(images).map_err(failed("making room for the images"))?;
        std::fs::rename(&checkpoint, images)
            .map_err(failed("finding the images in the runtime's checkpoint archive"))?;
        send_rest(sender, name, images, &HashMap::new()).await
    }

    /// CRIU tells what failed only in its log: the first error there is the reason.
    fn explained(&mut self, fault: Fault, file: &Path) -> Fault {
        if fault.reason != Reason::CaptureFailed {
            return fault;
        }
        let Ok(text) = std::fs::read_to_string(file) else { return fault };
        let found = log::first_error(&text).map(|_| log::explain(&text));
        self.criu_log = text;
        found.map_or(fault, |found| crate::host::criu_fault(Reason::CaptureFailed, &found))
    }
}

/// Lets the waiting process dump, follows its page images as they grow, and sends the rest when it is done.
async fn direct(
    armed: Armed,
    sender: &Sender,
    name: &str,
    images: &Path,
    workspace: &Path,
) -> Result<(), Fault> {
    let mut checkpoint = armed.go().await?;
    let mut followed: HashMap<PathBuf, Follow> = HashMap::new();
    let status = loop {
        tokio::select! {
            status = checkpoint.wait() => break status?,
            () = tokio::time::sleep(TICK) => follow_new(sender, name, images, &mut followed).await?,
        }
    };
    tracing::info!(container = name, %status, "the dump has ended");
    if !status.success() {
        let said = std::fs::read_to_string(workspace.join("runc.log")).unwrap_or_default();
        let reason = if status.code().is_some() { Reason::CaptureFailed } else { Reason::CaptureDied };
        return Err(Fault::new(reason, format!("the checkpoint ended with {status}: {}", said.trim())));
    }
    let mut sent = HashMap::new();
    for (path, follow) in followed {
        sent.insert(path, follow.finish().await.map_err(not_sent)?);
    }
    send_rest(sender, name, images, &sent).await
}

/// Starts to send page images that have appeared. CRIU only ever appends to them (criu/page-xfer.c).
async fn follow_new(
    sender: &Sender,
    name: &str,
    images: &Path,
    followed: &mut HashMap<PathBuf, Follow>,
) -> Result<(), Fault> {
    for path in files_of(images)? {
        let grows = path.file_name().is_some_and(|file| file.as_encoded_bytes().starts_with(b"pages-"));
        if grows && !followed.contains_key(&path) {
            let (label, mode, file) = content(name, &path)?;
            let follow = sender.follow(&label, mode, file).await.map_err(not_sent)?;
            followed.insert(path, follow);
        }
    }
    Ok(())
}

/// Sends all images that haven't been followed.
async fn send_rest(
    sender: &Sender,
    name: &str,
    images: &Path,
    sent: &HashMap<PathBuf, u64>,
) -> Result<(), Fault> {
    for path in files_of(images)? {
        if !sent.contains_key(&path) {
            let (label, mode, file) = content(name, &path)?;
            sender.file(&label, mode, file).await.map_err(not_sent)?;
        }
    }
    Ok(())
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let doing = || failed(format!("reading {}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(doing())? {
        let entry = entry.map_err(doing())?;
        if entry.file_type().map_err(doing())?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn content(name: &str, path: &Path) -> Result<(String, u32, File), Fault> {
    let doing = || failed(format!("opening {}", path.display()));
    let file = File::open(path).map_err(doing())?;
    let mode = file.metadata().map_err(doing())?.permissions().mode() & 0o777;
    let leaf = path.file_name().map(|leaf| leaf.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((format!("{name}/images/{leaf}"), mode, file))
}

/// Packs a folder as a layer into a file, on a thread of its own, beginning now.
fn pack(folder: PathBuf, into: PathBuf, what: &'static str) -> JoinHandle<Result<File, Fault>> {
    tokio::task::spawn_blocking(move || {
        let doing = || failed(format!("writing {}", into.display()));
        let file = File::options().create_new(true).write(true).read(true).open(&into).map_err(doing())?;
        rootfs::capture(&folder, BufWriter::new(&file))
            .map_err(|error| Fault::new(Reason::CaptureFailed, format!("{what}: {}", chain(&error))))?;
        Ok(file)
    })
}

fn sizes(bytes: TransferBytes) -> Bytes {
    Bytes { total: bytes.total, sent: bytes.sent, zero: bytes.zero, deduplicated: bytes.deduplicated }
}

/// What it means that something couldn't be sent.
fn not_sent(error: SendError) -> Fault {
    let reason = match &error {
        SendError::TargetFull { .. } => Reason::TargetFull,
        SendError::Link(LinkError::Closed {
            code: CloseCode::BadChunk | CloseCode::BadSeal | CloseCode::BadFrame,
            ..
        }) => Reason::ContentCorrupt,
        SendError::Link(LinkError::Certificate(..)) => Reason::WrongCertificate,
        SendError::Link(_) => Reason::ConnectionLost,
        SendError::Refused { .. } => Reason::TargetLost,
        _ => Reason::CaptureFailed,
    };
    let mend = match reason {
        Reason::TargetFull => "; give the target more memory, or move something smaller",
        Reason::ConnectionLost => "; look at the network between the nodes, then try again",
        Reason::ContentCorrupt => {
            "; something between the nodes changes data: try again, and if it happens again look at memory and network cards"
        }
        _ => "",
    };
    Fault::new(reason, format!("the state couldn't be sent to the target: {}{mend}", chain(&error)))
}

//! The frozen Pod becomes content: of each container CRIU's images and the changes of its root file system, and once
//! the shared memory of all.
//!
//! What is captured is a list of sources of content, each sent as soon as it is there. Containers are numbered in the
//! order of the plan, as a name may be anything: `N/images/…`, `N/rootfs.tar`. What belongs to all lies beside them:
//! `pod/shm.tar`. The workspace has the same folders.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::task::JoinHandle;
use transship_checkpoint::{archive, log, rootfs};
use transship_decision::Root;
use transship_proto::v1::Bytes;
use transship_proto::{Fault, Reason};
use transship_transfer::core::close::CloseCode;
use transship_transfer::quic::LinkError;
use transship_transfer::{Follow, SendError, Sender, TransferBytes};

use super::drive::{Migration, missing};
use crate::host::{Armed, blocking, criu_fault, failed};
use crate::node::chain;
use crate::runtime::{CRIU_CONFIG_VARIABLE, CheckpointOptions, Inspected};

/// How often CRIU's growing page images are looked at. Splicing into a file on a tmpfs raises no event.
const TICK: Duration = Duration::from_millis(1);
/// What CRIU is told beyond runc's flags, which count more than this: connections are closed, and open files that were
/// deleted come along whatever their size.
///
/// Nor are packets dropped meanwhile: that is for connections that go on elsewhere. The peers of one that ends hear of
/// it when the source is killed, a source that runs on has missed nothing, and nobody waits for iptables to start.
const CRIU_CONFIG: &str = "tcp-close\nnetwork-lock skip\nghost-limit 1073741824\n";

/// How many entries a checkpoint archive may have.
const ARCHIVE_ENTRIES: u64 = 100_000;

/// What has been captured.
#[derive(Debug, Default)]
pub struct Captured {
    /// Sizes, as far as they are known.
    pub bytes: Bytes,
}

/// The folder of what belongs to all containers.
const OF_POD: &str = "pod";
/// What CRIU writes of the IPC namespace that all containers of a Pod share: restored by one of them.
const SHARED_IMAGES: [&str; 3] = ["ipcns-shm-", "ipcns-sem-", "ipcns-msg-"];

/// A container of the Pod and where its content goes.
#[derive(Debug, Clone)]
struct Source {
    number: usize,
    container: Inspected,
    /// Its folder in the workspace.
    folder: PathBuf,
}

/// A dump that failed, and what CRIU's log says of it; empty if there is none.
struct Failed {
    fault: Fault,
    log: String,
}

impl Migration {
    /// Starts the processes that will become `runc checkpoint`, in the capture's own cgroup.
    pub(super) fn arm_capture(&mut self) -> Result<(), Fault> {
        let cgroup = self.capture_cgroup()?;
        for source in self.sources()? {
            let options = CheckpointOptions {
                images: source.folder("images")?,
                work: source.folder("work")?,
                criu_config: source.folder.join("criu.conf"),
            };
            std::fs::write(&options.criu_config, CRIU_CONFIG)
                .map_err(failed("writing CRIU's configuration"))?;
            let oci = &source.container.oci;
            let handler = crate::facts::Handler::of_program(&oci.program);
            let arguments = oci.checkpoint_arguments(&source.container.container_id, &options);
            let environment = [(CRIU_CONFIG_VARIABLE, options.criu_config.into_os_string())];
            let log = source.folder.join("runc.log");
            let enter =
                |pid| cgroup.add(pid).map_err(|error| Fault::new(Reason::HostError, error.to_string()));
            self.armed.push(Armed::new(&handler.runtime()?, &arguments, &environment, &log, enter)?);
        }
        Ok(())
    }

    /// Dumps the frozen containers and sends everything that is made, while it is made.
    pub(super) async fn capture(&mut self) -> Result<(), Fault> {
        let sources = self.sources()?;
        let workspace = self.workspace.as_ref().ok_or_else(|| missing("workspace"))?;
        let mut packing = Vec::new();
        // All begin now, beside CRIU. What lies in /dev/shm CRIU takes for a mount from outside.
        for source in &sources {
            let into = source.folder.join("rootfs.tar");
            let changes = pack(source.container.upper.clone(), into, "the root file system's changes");
            packing.push((format!("{}/rootfs.tar", source.number), changes));
        }
        if let Some(shm) = self.cleared()?.pod.shm.clone() {
            let into = workspace.folder(OF_POD)?.join("shm.tar");
            packing.push((format!("{OF_POD}/shm.tar"), pack(shm, into, "the shared memory in /dev/shm")));
        }
        for volume in &self.cleared()?.volumes {
            let into = workspace.folder(OF_POD)?.join(format!("volume-{}.tar", volume.name));
            packing.push((volume.label(), pack(volume.path.clone(), into, "a volume")));
        }
        let armed = std::mem::take(&mut self.armed);
        if let Err(Failed { fault, log }) = self.dump(&sources, armed).await {
            self.criu_log = log;
            return Err(fault);
        }
        tracing::info!(containers = sources.len(), "the images are on their way");
        let sender = self.sender.as_ref().ok_or_else(|| missing("connection"))?;
        for (label, packing) in packing {
            let file = packing.await.map_err(|error| Fault::new(Reason::HostError, error.to_string()))??;
            sender.file(&label, 0o600, file).await.map_err(not_sent)?;
        }
        Ok(())
    }

    /// Every container is dumped: all at once by what was armed, else one after the other by the container runtime.
    async fn dump(&self, sources: &[Source], armed: Vec<Armed>) -> Result<(), Failed> {
        let sender = self.sender.as_ref().ok_or_else(|| missing("connection"));
        let sender = sender.map_err(|fault| Failed { fault, log: String::new() })?;
        if self.plan().is_ok_and(|plan| plan.paused_by_runtime) {
            for source in sources {
                self.through_cri(sender, source).await.map_err(|fault| source.explained(fault))?;
            }
            return Ok(());
        }
        let dumps = sources.iter().zip(armed).map(|(source, armed)| async move {
            direct(armed, sender, source).await.map_err(|fault| source.explained(fault))
        });
        try_join_all(dumps).await.map(drop)
    }

    /// What is captured, in the order of the plan.
    fn sources(&self) -> Result<Vec<Source>, Fault> {
        let workspace = self.workspace.as_ref().ok_or_else(|| missing("workspace"))?;
        let containers = self.cleared()?.pod.containers.iter().enumerate();
        let source = |(number, container): (usize, &Inspected)| {
            let folder = workspace.folder(number.to_string())?;
            Ok(Source { number, container: container.clone(), folder })
        };
        containers.map(source).collect()
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
    async fn through_cri(&self, sender: &Sender, source: &Source) -> Result<(), Fault> {
        let archive = source.folder.join("archive.tar");
        let patience = Duration::from_millis(self.plan()?.budget_ms.into());
        self.node.cri.checkpoint(&source.container.container_id, &archive, patience).await?;
        let unpacked = source.folder("archive")?;
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
        std::fs::rename(unpacked.join("checkpoint"), source.folder.join("images"))
            .map_err(failed("finding the images in the runtime's checkpoint archive"))?;
        send_rest(sender, source, &HashMap::new()).await
    }
}

impl Source {
    /// A folder in its folder of the workspace, made if missing.
    fn folder(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).map_err(failed(format_args!("making {}", path.display())))?;
        Ok(path)
    }

    /// The images that are sent, as far as they are there.
    fn images(&self) -> Result<Vec<PathBuf>, Fault> {
        let mut images = files_of(&self.folder.join("images"))?;
        images.retain(|image| self.number == 0 || !begins(image, &SHARED_IMAGES));
        Ok(images)
    }

    /// CRIU tells what failed only in its log: the first error there is the reason.
    fn explained(&self, fault: Fault) -> Failed {
        let text = std::fs::read_to_string(self.folder.join("work/dump.log"));
        match text {
            Ok(log) if fault.reason == Reason::CaptureFailed => {
                let found = log::first_error(&log).map(|_| log::explain(&log));
                let fault = found.map_or(fault, |found| criu_fault(Reason::CaptureFailed, &found));
                Failed { fault, log }
            }
            _ => Failed { fault, log: String::new() },
        }
    }
}

/// Lets the waiting process dump, follows its page images as they grow, and sends the rest when it is done.
async fn direct(armed: Armed, sender: &Sender, source: &Source) -> Result<(), Fault> {
    let mut checkpoint = armed.go().await?;
    let mut followed: HashMap<PathBuf, Follow> = HashMap::new();
    let status = loop {
        tokio::select! {
            status = checkpoint.wait() => break status?,
            () = tokio::time::sleep(TICK) => follow_new(sender, source, &mut followed).await?,
        }
    };
    tracing::info!(container = source.container.name, %status, "the dump has ended");
    if !status.success() {
        let said = std::fs::read_to_string(source.folder.join("runc.log")).unwrap_or_default();
        let reason = if status.code().is_some() { Reason::CaptureFailed } else { Reason::CaptureDied };
        return Err(Fault::new(reason, format!("the checkpoint ended with {status}: {}", said.trim())));
    }
    let mut sent = HashMap::new();
    for (path, follow) in followed {
        sent.insert(path, follow.finish().await.map_err(not_sent)?);
    }
    send_rest(sender, source, &sent).await
}

/// Starts to send page images that have appeared. CRIU only ever appends to them (criu/page-xfer.c).
async fn follow_new(
    sender: &Sender,
    source: &Source,
    followed: &mut HashMap<PathBuf, Follow>,
) -> Result<(), Fault> {
    for path in source.images()? {
        if begins(&path, &["pages-"]) && !followed.contains_key(&path) {
            let (label, mode, file) = content(source, &path)?;
            let follow = sender.follow(&label, mode, file).await.map_err(not_sent)?;
            followed.insert(path, follow);
        }
    }
    Ok(())
}

/// Sends all images that haven't been followed.
async fn send_rest(sender: &Sender, source: &Source, sent: &HashMap<PathBuf, u64>) -> Result<(), Fault> {
    for path in source.images()? {
        if !sent.contains_key(&path) {
            let (label, mode, file) = content(source, &path)?;
            sender.file(&label, mode, file).await.map_err(not_sent)?;
        }
    }
    Ok(())
}

fn begins(path: &Path, with: &[&str]) -> bool {
    let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    with.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
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

fn content(source: &Source, path: &Path) -> Result<(String, u32, File), Fault> {
    let doing = || failed(format!("opening {}", path.display()));
    let file = File::open(path).map_err(doing())?;
    let mode = file.metadata().map_err(doing())?.permissions().mode() & 0o777;
    let leaf = path.file_name().map(|leaf| leaf.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((format!("{}/images/{leaf}", source.number), mode, file))
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

//! Images that claim more than the target's bundle grants are refused before anything of them runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use transship_checkpoint::image::proto::{Core, Mount, Rlimit, TaskCore, ThreadCore};
use transship_checkpoint::image::{Entry, decode, encode};
use transship_lab::{Lab, Node, NodeName};
use transship_proto::cri::{Capability, SecurityProfile};

use crate::evidence::Counter;
use crate::footprint::Footprint;
use crate::node;
use crate::scenario::{Scenario, scenarios};
use crate::transship::migration;

pub fn all() -> Vec<Scenario> {
    scenarios!("grants":
        images_with_all_capabilities,
        images_of_another_user,
        images_without_a_seccomp_filter,
        images_that_may_gain_privileges,
        images_without_limits,
        images_with_a_writable_proc_sys,
    )
}

/// How long both nodes may take to be as they were.
const CLEAN: Duration = Duration::from_secs(20);

/// Changes what lies verified on the target, and sees that the counter on the source doesn't care.
fn refused(lab: &Lab, claim: &str, alter: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (a, b) = (lab.node(NodeName::A), lab.node(NodeName::B));
    let workload = Counter::workload("counter", 1);
    b.image_of(&workload)?;
    let mut config = workload.container(&a.image_of(&workload)?);
    if let Some(context) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
        context.no_new_privs = true;
        // The runtime's own profile.
        context.seccomp = Some(SecurityProfile::default());
        let drop_capabilities = vec!["SETUID".to_owned()];
        context.capabilities = Some(Capability { drop_capabilities, ..Capability::default() });
    }
    let container = a.cri()?.run(a.prepare(&workload)?, config)?;
    let counter = Counter::started(lab, "counter", &container.address)?;

    node::agent_with(b, "hold@target:restore")?;
    let before = Footprint::of(lab)?;
    let underway = migration("counter", NodeName::A).start(lab)?;
    node::await_hold(b)?;
    alter(&images(b)?)?;
    node::release(b)?;
    let report = underway.finish()?;
    report.failed_with(&["GrantExceeded"])?;
    ensure!(report.message.contains(claim), "it doesn't say what was claimed: {}", report.message);
    counter.runs_on()?;
    before.awaited(lab, CLEAN)?;
    counter.has_written_each_number_once()
}

/// The images of the one container that is being moved to a node.
fn images(node: &Node) -> Result<PathBuf> {
    let work = node.path("/run/transship/work")?;
    let mut migrations = fs::read_dir(&work).with_context(|| format!("list {}", work.display()))?;
    let migration = migrations.next().context("nothing is being moved")?.context("list migrations")?;
    Ok(migration.path().join("tree/0/images"))
}

/// Alters an image; of a kind that has one for each task, all of them.
fn alter<M: Entry>(images: &Path, kind: &str, mut alter: impl FnMut(&mut M)) -> Result<()> {
    let mut altered = 0;
    for image in fs::read_dir(images).context("list images")? {
        let path = image.context("list images")?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
        if named {
            let mut entries: Vec<M> = decode(&fs::read(&path).context("read an image")?)?;
            entries.iter_mut().for_each(&mut alter);
            fs::write(&path, encode(&entries)).context("write an image")?;
            altered += 1;
        }
    }
    ensure!(altered > 0, "there is no image {kind}* in {}", images.display());
    Ok(())
}

fn images_with_all_capabilities(lab: &Lab) -> Result<()> {
    refused(lab, "CAP_SYS_ADMIN", |images| {
        alter(images, "core-", |core: &mut Core| {
            if let Some(ThreadCore { creds: Some(creds), .. }) = &mut core.thread_core {
                for set in [&mut creds.cap_prm, &mut creds.cap_eff, &mut creds.cap_bnd] {
                    *set = vec![u32::MAX, 0x1ff];
                }
            }
        })
    })
}

fn images_of_another_user(lab: &Lab) -> Result<()> {
    refused(lab, "user id 4242", |images| {
        alter(images, "core-", |core: &mut Core| {
            if let Some(ThreadCore { creds: Some(creds), .. }) = &mut core.thread_core {
                (creds.uid, creds.euid, creds.suid, creds.fsuid) = (4242, 4242, 4242, 4242);
            }
        })
    })
}

fn images_without_a_seccomp_filter(lab: &Lab) -> Result<()> {
    refused(lab, "seccomp", |images| {
        alter(images, "core-", |core: &mut Core| {
            if let Some(thread) = &mut core.thread_core {
                (thread.seccomp_mode, thread.seccomp_filter) = (None, None);
            }
            if let Some(task) = &mut core.tc {
                (task.old_seccomp_mode, task.old_seccomp_filter) = (None, None);
            }
        })
    })
}

fn images_that_may_gain_privileges(lab: &Lab) -> Result<()> {
    refused(lab, "noNewPrivileges", |images| {
        alter(images, "core-", |core: &mut Core| {
            if let Some(ThreadCore { creds: Some(creds), .. }) = &mut core.thread_core {
                creds.no_new_privs = None;
            }
        })
    })
}

fn images_without_limits(lab: &Lab) -> Result<()> {
    refused(lab, "RLIMIT_", |images| {
        alter(images, "core-", |core: &mut Core| {
            if let Some(TaskCore { rlimits: Some(limits), .. }) = &mut core.tc {
                for limit in &mut limits.rlimits {
                    *limit = Rlimit { cur: u64::MAX, max: u64::MAX };
                }
            }
        })
    })
}

fn images_with_a_writable_proc_sys(lab: &Lab) -> Result<()> {
    /// `MS_RDONLY`.
    const READ_ONLY: u32 = 1;
    refused(lab, "/proc/sys", |images| {
        alter(images, "mountpoints-", |mount: &mut Mount| {
            if mount.mountpoint.ends_with("/proc/sys") {
                mount.flags &= !READ_ONLY;
            }
        })
    })
}

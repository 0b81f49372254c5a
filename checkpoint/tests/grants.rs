//! Images of a real container, as they are and altered to claim more, held against the bundle that it ran from.
//!
//! `container/` was dumped by CRIU 4.2.1 under runc 1.3.6 from a `counter` of two threads, on cgroup v1.

#![allow(clippy::unwrap_used)] // Helpers of tests aren't told from other code by clippy.toml.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use transship_checkpoint::grants::{Beyond, Grant, Namespace, Reference, claims_of_images, excess};
use transship_checkpoint::image::proto::{
    Core, Creds, Inventory, Mount, Rlimit, Seccomp, TaskIds, ThreadCore,
};
use transship_checkpoint::image::{Entry, decode, encode};

const DUMPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/container");

/// A copy of the container's images and bundle, to be altered.
struct Container {
    dir: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        let container = Self { dir: tempfile::tempdir().unwrap() };
        let rootfs = container.path("rootfs");
        fs::create_dir_all(rootfs.join("run")).unwrap();
        std::os::unix::fs::symlink("/run", rootfs.join("var-run")).unwrap();
        for entry in fs::read_dir(DUMPED).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), container.path(entry.file_name().to_str().unwrap())).unwrap();
        }
        container
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Alters all entries of an image.
    fn alter<M: Entry>(&self, image: &str, alter: impl Fn(&mut Vec<M>)) -> &Self {
        let path = self.path(image);
        let mut entries = decode(&fs::read(&path).unwrap()).unwrap();
        alter(&mut entries);
        fs::write(path, encode(&entries)).unwrap();
        self
    }

    fn alter_thread(&self, image: &str, alter: impl Fn(&mut ThreadCore)) -> &Self {
        self.alter::<Core>(image, |cores| alter(cores[0].thread_core.as_mut().unwrap()))
    }

    fn alter_creds(&self, alter: impl Fn(&mut Creds)) -> &Self {
        self.alter_thread("core-6.img", |thread| alter(thread.creds.as_mut().unwrap()))
    }

    fn alter_mount(&self, at: &str, alter: impl Fn(&mut Mount)) -> &Self {
        let find =
            |mounts: &mut Vec<Mount>| alter(mounts.iter_mut().find(|mount| mount.mountpoint == at).unwrap());
        self.alter(&self.mountpoints(), find)
    }

    fn mountpoints(&self) -> String {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).find(|name| name.starts_with("mountpoints-")).unwrap()
    }

    fn alter_bundle(&self, alter: impl Fn(&mut Value)) -> &Self {
        let path = self.path("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        alter(&mut config);
        fs::write(path, config.to_string()).unwrap();
        self
    }

    /// What each task has too much of, and the sentences.
    fn beyond(&self) -> Vec<(u32, Beyond, String)> {
        let grant = Grant::from_bundle(self.dir.path()).unwrap();
        let claims = claims_of_images(self.dir.path()).unwrap();
        let all = excess(&grant, &claims, &Reference::default());
        all.into_iter().map(|one| (one.task.id, one.what.clone(), one.to_string())).collect()
    }

    fn only(&self) -> (u32, Beyond, String) {
        let mut all = self.beyond();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.remove(0)
    }
}

#[test]
fn what_was_dumped_is_what_was_granted() {
    assert_eq!(Container::new().beyond(), []);
}

#[test]
fn one_more_capability_in_any_set_of_any_thread() {
    const SYS_ADMIN: u32 = 1 << 21;
    for (set, alter) in [
        ("bounding", (|creds| creds.cap_bnd[0] |= SYS_ADMIN) as fn(&mut Creds)),
        ("permitted", |creds| creds.cap_prm[0] |= SYS_ADMIN),
        ("effective", |creds| creds.cap_eff[0] |= SYS_ADMIN),
        ("inheritable", |creds| creds.cap_inh[0] |= SYS_ADMIN),
        ("ambient", |creds| creds.cap_amb[0] |= SYS_ADMIN),
    ] {
        let container = Container::new();
        let (task, _, sentence) = container.alter_creds(alter).only();
        assert_eq!(task, 6);
        let expected =
            format!("task 6 (counter) has CAP_SYS_ADMIN in its {set} set, which the bundle doesn't grant");
        assert_eq!(sentence, expected);
    }
}

#[test]
fn other_ids_without_the_capability_to_take_them() {
    let container = Container::new();
    assert_eq!(container.alter_creds(|creds| creds.suid = 7).only().1, Beyond::User { has: 7, granted: 0 });
    let container = Container::new();
    assert_eq!(container.alter_creds(|creds| creds.groups.push(7)).only().1, Beyond::Group { has: 7 });

    let container = Container::new();
    container.alter_creds(|creds| (creds.suid, creds.egid) = (7, 7)).alter_bundle(|config| {
        config["process"]["capabilities"]["bounding"] =
            json!(["CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_AUDIT_WRITE", "CAP_NET_BIND_SERVICE"]);
    });
    assert_eq!(container.beyond(), []);
}

#[test]
fn privileges_to_be_gained() {
    let container = Container::new();
    assert_eq!(container.alter_creds(|creds| creds.no_new_privs = Some(0)).only().1, Beyond::NewPrivileges);
}

#[test]
fn a_filter_taken_off_or_made_harmless() {
    // Without the first thread's filter, which CRIU puts on all threads, none has one.
    let container = Container::new();
    container.alter_thread("core-1.img", |thread| thread.seccomp_mode = Some(0));
    let all: Vec<_> = container.beyond().into_iter().map(|(task, what, _)| (task, what)).collect();
    assert_eq!(all, [(1, Beyond::NoSeccomp), (6, Beyond::NoSeccomp)]);

    // Without its flag it would be on the first thread alone.
    let container = Container::new();
    container.alter::<Seccomp>("seccomp.img", |seccomp| seccomp[0].seccomp_filters[0].flags = None);
    assert_eq!(container.only().1, Beyond::NoSeccomp);

    let container = Container::new();
    let allow_all = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
    container
        .alter::<Seccomp>("seccomp.img", |seccomp| seccomp[0].seccomp_filters[0].filter = allow_all.to_vec());
    let all = container.beyond();
    assert!(
        matches!(&all[0].1, Beyond::SystemCalls(names) if names.iter().any(|name| name == "mount")),
        "{all:?}"
    );
}

#[test]
fn a_profile_that_grants_less_than_the_filter() {
    let container = Container::new();
    container.alter_bundle(|config| {
        let names = config["linux"]["seccomp"]["syscalls"][0]["names"].as_array_mut().unwrap();
        names.retain(|name| name != "mkdir");
    });
    let all = container.beyond();
    let told = &all[0].2;
    assert!(
        matches!(&all[0].1, Beyond::SystemCalls(names) if names.iter().all(|name| name.starts_with("mkdir"))),
        "{told}"
    );
}

#[test]
fn a_profile_whose_conditions_are_narrower() {
    let container = Container::new();
    container.alter_bundle(|config| {
        let rules = config["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
        rules.retain(|rule| rule["args"][0]["value"] != 131080);
    });
    let all = container.beyond();
    assert!(matches!(&all[0].1, Beyond::SystemCalls(names) if names[0] == "personality"), "{all:?}");
}

#[test]
fn a_limit_raised() {
    let container = Container::new();
    container.alter::<Core>("core-1.img", |cores| {
        let limits = cores[0].tc.as_mut().unwrap().rlimits.as_mut().unwrap();
        limits.rlimits[7] = Rlimit { cur: 1, max: u64::MAX };
    });
    // The process's limit, told of each of its threads.
    let sentence = "task 1 (counter) has a hard RLIMIT_NOFILE of unlimited, 20000 is granted";
    assert_eq!(container.beyond()[0].2, sentence);
}

#[test]
fn killed_later_than_others() {
    let container = Container::new();
    container.alter::<Core>("core-1.img", |cores| cores[0].tc.as_mut().unwrap().oom_score_adj = Some(-900));
    assert_eq!(container.beyond()[0].1, Beyond::OomScoreAdj { has: -900, granted: 0 });
}

#[test]
fn a_mount_that_nobody_granted() {
    let container = Container::new();
    let mountpoints = container.mountpoints();
    container.alter::<Mount>(&mountpoints, |mounts| {
        let proc = mounts.iter().find(|mount| mount.mountpoint == "/proc").unwrap();
        mounts.push(Mount { mountpoint: "/data/proc".into(), ..proc.clone() });
    });
    let sentence = "task 1 (counter) has a proc mounted at /data/proc, which the bundle doesn't grant";
    assert_eq!(container.only().2, sentence);
    // The same on top of one that was.
    let container = Container::new();
    container.alter::<Mount>(&mountpoints, |mounts| {
        let proc = mounts.iter().find(|mount| mount.mountpoint == "/proc").unwrap();
        mounts.push(proc.clone());
    });
    assert_eq!(container.only().1, Beyond::Mount { at: "/proc".into(), kind: "proc".into() });
}

#[test]
fn something_else_at_a_granted_place() {
    let container = Container::new();
    container.alter_mount("/etc/hosts", |mount| (mount.ext_key, mount.fstype) = (None, 1));
    assert!(matches!(container.only().1, Beyond::MountOfOther { at, .. } if at == Path::new("/etc/hosts")));
    let container = Container::new();
    container.alter_mount("/etc/hosts", |mount| mount.ext_key = Some("/run/secrets".into()));
    assert!(matches!(container.only().1, Beyond::MountOfOther { at, .. } if at == Path::new("/etc/hosts")));
    let container = Container::new();
    container.alter_mount("/dev/shm", |mount| mount.fstype = 1);
    assert!(matches!(container.only().1, Beyond::MountOfOther { at, .. } if at == Path::new("/dev/shm")));
}

#[test]
fn flags_taken_off_a_mount() {
    let container = Container::new();
    container.alter_mount("/sys", |mount| (mount.flags, mount.sb_flags) = (0, None));
    assert_eq!(
        container.only().2,
        "task 1 (counter) has /sys mounted without ro,nosuid,nodev,noexec, which the bundle asks for"
    );
}

#[test]
fn paths_laid_open() {
    let container = Container::new();
    let mountpoints = container.mountpoints();
    container
        .alter::<Mount>(&mountpoints, |mounts| mounts.retain(|mount| mount.mountpoint != "/proc/timer_list"));
    assert_eq!(container.only().1, Beyond::Unmasked("/proc/timer_list".into()));
    let container = Container::new();
    container.alter_mount("/proc/sys", |mount| (mount.flags, mount.sb_flags) = (0, None));
    assert_eq!(container.only().1, Beyond::Writable("/proc/sys".into()));
}

#[test]
fn a_container_that_may_mount_is_held_to_no_mounts() {
    let container = Container::new();
    let mountpoints = container.mountpoints();
    container.alter::<Mount>(&mountpoints, |mounts| mounts.clear()).alter_bundle(|config| {
        config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    });
    assert_eq!(container.beyond(), []);
}

#[test]
fn tasks_that_would_be_in_the_nodes_own_namespaces() {
    let container = Container::new();
    let inventory = decode::<Inventory>(&fs::read(container.path("inventory.img")).unwrap()).unwrap();
    let node = inventory[0].root_ids.unwrap();
    container.alter::<TaskIds>("ids-1.img", |ids| ids[0].ipc_ns_id = node.ipc_ns_id);
    let all: Vec<_> = container.beyond().into_iter().map(|(task, what, _)| (task, what)).collect();
    assert_eq!(all, [(1, Beyond::Namespace(Namespace::Ipc)), (6, Beyond::Namespace(Namespace::Ipc))]);

    let container = Container::new();
    container.alter::<TaskIds>("ids-1.img", |ids| ids[0].mnt_ns_id = None);
    assert!(container.beyond().iter().any(|(_, what, _)| *what == Beyond::Namespace(Namespace::Mount)));
}

#[test]
fn credentials_left_out_are_no_credentials() {
    let container = Container::new();
    container.alter_thread("core-6.img", |thread| thread.creds = None);
    let error = claims_of_images(container.dir.path()).unwrap_err();
    assert!(error.to_string().starts_with("core-6.img lacks its credentials"), "{error}");
}

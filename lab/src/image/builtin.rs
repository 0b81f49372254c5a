//! The lab's own images: static test programs, a shell, and two real servers from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::oci::ImageConfig;
use super::rootfs::Rootfs;
use crate::error::{At, LabError, Result};
use crate::root::Root;
use crate::{command, hash, host};

/// The images that can be asked for by name. `shell` runs any command line; `redis` and `postgresql` keep nothing
/// outside of the container.
pub const WORKLOADS: &[&str] =
    &["counter", "witness", "dirty", "processes", "pair", "shell", "redis", "postgresql"];

/// How an image is made.
pub(super) struct Recipe<'a> {
    source: Source<'a>,
    /// Over all that goes into it.
    pub(super) hash: String,
}

enum Source<'a> {
    Program { name: String, path: PathBuf },
    Shell(&'a Root),
    Redis(&'a Root),
    Postgresql(&'a Root),
}

/// The recipe of that name, `pause` included.
pub(super) fn recipe<'a>(name: &str, root: &'a Root, programs: &Path) -> Result<Recipe<'a>> {
    let of_root = |source| {
        // The hash in the root's name stands for all that is in it, this file for how it is picked.
        let parts =
            [name.as_bytes(), root.path().as_os_str().as_encoded_bytes(), include_bytes!("builtin.rs")];
        Ok(Recipe { source, hash: hash::of(parts) })
    };
    match name {
        "shell" => of_root(Source::Shell(root)),
        "redis" => of_root(Source::Redis(root)),
        "postgresql" => of_root(Source::Postgresql(root)),
        "pause" | "counter" | "witness" | "dirty" | "processes" | "pair" => {
            let path = programs.join(name);
            let program = fs::read(&path).at("read", &path)?;
            let hash = hash::of([name.as_bytes(), &program, include_bytes!("builtin.rs")]);
            Ok(Recipe { source: Source::Program { name: name.to_owned(), path }, hash })
        }
        other => {
            Err(LabError::Usage(format!("the lab has no image `{other}`, only {}", WORKLOADS.join(", "))))
        }
    }
}

impl Recipe<'_> {
    pub(super) fn make(&self) -> Result<(Rootfs, ImageConfig)> {
        let rootfs = Rootfs::new()?;
        let config = match &self.source {
            Source::Program { name, path } => {
                rootfs.copy(path, name)?;
                ImageConfig { entrypoint: words(&[&format!("/{name}")]), ..Default::default() }
            }
            Source::Shell(root) => shell(&rootfs, root)?,
            Source::Redis(root) => redis(&rootfs, root)?,
            Source::Postgresql(root) => postgresql(&rootfs, root)?,
        };
        Ok((rootfs, config))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn shell(rootfs: &Rootfs, root: &Root) -> Result<ImageConfig> {
    rootfs.add_busybox(root)?;
    // The first process of a container dies of a signal only if it asks for it.
    let wait = "trap exit TERM; while :; do sleep 60 & wait; done";
    Ok(ImageConfig { cmd: words(&["sh", "-c", wait]), env: words(&["PATH=/bin"]), ..Default::default() })
}

/// Without any persistence: what is there after a migration came over in memory.
fn redis(rootfs: &Rootfs, root: &Root) -> Result<ImageConfig> {
    rootfs.add_programs(root, &["/usr/bin/redis-server", "/usr/bin/redis-cli"])?;
    let arguments =
        ["--save", "", "--appendonly", "no", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"];
    Ok(ImageConfig {
        entrypoint: words(&["/usr/bin/redis-server"]),
        cmd: words(&arguments),
        env: words(&["PATH=/usr/bin"]),
        ..Default::default()
    })
}

/// The user that the server runs as, since it refuses to be root. `not_root.c` knows the number too.
const POSTGRES: u32 = 999;

fn postgresql(rootfs: &Rootfs, root: &Root) -> Result<ImageConfig> {
    let lib = only_folder(root, "usr/lib/postgresql")?;
    let share = only_folder(root, "usr/share/postgresql")?;
    let programs = ["postgres", "initdb", "psql"].map(|name| format!("{lib}/bin/{name}"));
    let extensions = ["plpgsql", "dict_snowball"].map(|name| format!("{lib}/lib/{name}.so"));
    let all: Vec<_> = programs.iter().chain(&extensions).map(String::as_str).collect();
    rootfs.add_programs(root, &all)?;
    rootfs.add_tree(root, &share)?;
    rootfs.add_tree(root, "/usr/share/zoneinfo/Etc")?;
    rootfs.add_busybox(root)?;
    rootfs.make_folder("run/postgresql")?;
    rootfs.make_folder("data/pg")?;
    rootfs.write(
        "etc/passwd",
        &format!("root:x:0:0::/:/bin/sh\npostgres:x:{POSTGRES}:{POSTGRES}::/data:/bin/sh\n"),
    )?;
    let start = format!(
        "export TZ=Etc/UTC
[ -e /data/pg/PG_VERSION ] || {lib}/bin/initdb --no-sync --auth=trust --no-locale --encoding=UTF8 /data/pg >/dev/null
exec {lib}/bin/postgres -D /data/pg -c listen_addresses='*' -c jit=off -c fsync=off -c timezone=Etc/UTC \\
    -c hba_file=/etc/pg_hba.conf \"$@\"
"
    );
    rootfs.write("start", &start)?;
    rootfs.write("etc/pg_hba.conf", "local all all trust\nhost all all all trust\n")?;
    for folder in ["data/pg", "run/postgresql"] {
        let path = rootfs.path().join(folder);
        std::os::unix::fs::chown(&path, Some(POSTGRES), Some(POSTGRES)).at("change the owner of", path)?;
    }
    let mut config = ImageConfig {
        entrypoint: words(&["/bin/sh", "/start"]),
        env: words(&[&format!("PATH={lib}/bin:/bin")]),
        user: format!("{POSTGRES}:{POSTGRES}"),
        ..Default::default()
    };
    if !host::may_raise_limits()? {
        // CRIU can't read the limits of another user's process here, so the server must be root and not know it.
        let library = rootfs.path().join("not_root.so");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-nostdlib", "-x", "c", "-o"]).arg(&library).arg("-");
        command::output_with_input(&mut cc, include_str!("not_root.c"))?;
        config.user = String::new();
        config.env.push("LD_PRELOAD=/not_root.so".to_owned());
    }
    Ok(config)
}

/// The one folder in a folder of the root: the package's version.
fn only_folder(root: &Root, folder: &str) -> Result<String> {
    let path = root.path().join(folder);
    let mut entries = fs::read_dir(&path).at("list", &path)?;
    match (entries.next(), entries.next()) {
        (Some(Ok(entry)), None) => Ok(format!("/{folder}/{}", entry.file_name().to_string_lossy())),
        _ => Err(LabError::Broken(format!("{} should hold one version", path.display()))),
    }
}

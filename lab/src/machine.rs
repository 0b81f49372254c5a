//! A machine of the lab: a process tree in namespaces of its own, with a file system of its own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cgroup::Cgroups;
use crate::error::{At, LabError, Result};
use crate::process::Process;
use crate::settings::Settings;
use crate::{PATH, command, orphans};

/// The first steps inside of the new namespaces.
const MACHINE: &str = include_str!("machine.sh");
/// Joins cgroups, then runs a command.
const ENTER: &str = include_str!("enter.sh");

/// On the machine's tmpfs, so that a power cut takes it away.
const READY: &str = "/run/lab-ready";

/// A handle of one machine, running or not. The record of its process on the disk is the one truth, so that all
/// handles, also those of other programs, see the same. The folder outlives a power cut.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
    /// upper, work, root, containerd, transship, kubelet; `init` (the record of the process), `machine.log`.
    folder: PathBuf,
    /// Below every hierarchy's root.
    cgroup: PathBuf,
    cgroups: Cgroups,
}

impl Machine {
    pub(crate) fn new(name: &str, folder: PathBuf, cgroup: PathBuf, cgroups: Cgroups) -> Self {
        Machine { name: name.to_owned(), folder, cgroup, cgroups }
    }

    /// Its name, which is its host name too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The PID of its init as the host sees it.
    pub fn pid(&self) -> Result<u32> {
        let gone = || LabError::Broken(format!("machine `{}` doesn't run", self.name));
        self.init()?.map(|init| init.pid()).ok_or_else(gone)
    }

    /// Whether its init lives.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.init()?.is_some())
    }

    /// Whether it runs and its start got to the end.
    pub(crate) fn is_ready(&self) -> Result<bool> {
        Ok(self.is_running()? && self.path(READY)?.exists())
    }

    /// To be called when all is started: a machine whose starter was killed half-way is started anew.
    pub(crate) fn mark_ready(&self) -> Result<()> {
        let path = self.path(READY)?;
        fs::write(&path, "").at("write", path)
    }

    fn init(&self) -> Result<Option<Process>> {
        let record = self.record();
        match fs::read(&record) {
            Ok(json) => Ok(serde_json::from_slice::<Process>(&json).ok().filter(Process::is_alive)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", record),
        }
    }

    fn record(&self) -> PathBuf {
        self.folder.join("init")
    }

    /// A path inside of it, as seen from here. Good while it runs.
    pub fn path(&self, inside: impl AsRef<Path>) -> Result<PathBuf> {
        let inside = inside.as_ref();
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        Ok(PathBuf::from(format!("/proc/{}/root", self.pid()?)).join(relative))
    }

    /// Starts it as these settings say. With `host`, it lives in that machine's PID namespace and ends with it.
    pub(crate) fn start(&self, settings: &Settings, host: Option<&Machine>) -> Result<()> {
        fs::create_dir_all(&self.folder).at("make", &self.folder)?;
        let mounts = self.cgroups.mounts(settings.cgroups)?;
        // Forked off, so that it is nobody's child here: it may outlive this process, or be outlived by it.
        let mut start = Command::new("setsid");
        start.args(["--fork", "sh", "-c", ENTER, "enter"]).args(self.cgroups.make(&self.cgroup)?).arg("--");
        if let Some(host) = host {
            start.args(["nsenter", &format!("--target={}", host.pid()?), "--pid", "--"]);
        }
        start.args(["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]);
        start.args(["--fork", "--kill-child", "--propagation=private", "sh", "-c", MACHINE, "machine"]);
        start.env_clear().env("PATH", PATH).env("NAME", &self.name).env("CGROUPS", mounts.join(" "));
        start.env("ROOT", &settings.root).env("DISK", &self.folder);
        start.env("KUBERNETES", settings.kubernetes.as_deref().unwrap_or(Path::new("")));
        let log = self.folder.join("machine.log");
        start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).at("create", &log)?);
        let mut child =
            start.spawn().map_err(|source| LabError::Spawn { command: command::describe(&start), source })?;

        let mut answer = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut answer).at("read the answer of", &self.folder)?;
        }
        child.wait().at("wait for the start of", &self.folder)?;
        let init = answer.strip_prefix("ready ").and_then(|pid| Process::with_pid(pid.trim().parse().ok()?));
        let Some(init) = init else {
            let mut said = String::new();
            File::open(&log).and_then(|mut f| f.read_to_string(&mut said)).at("read", &log)?;
            return Err(LabError::Broken(format!("machine `{}` did not start: {}", self.name, said.trim())));
        };
        self.cgroups.settle(&self.cgroup)?;
        let json = serde_json::to_vec(&init).map_err(std::io::Error::from).at("write", self.record())?;
        fs::write(self.record(), json).at("write", self.record())
    }

    /// Ends everything in it at once and removes its cgroups. Its disk stays.
    pub(crate) fn stop(&self) -> Result<()> {
        let init = self.init()?;
        if let Some(init) = init {
            // The kernel ends all the others with it, so that none sees another die.
            init.kill();
        }
        // Frozen ones have to be thawed to die, and a start that failed has left processes but no record.
        self.cgroups.remove(&self.cgroup)?;
        match init {
            Some(init) if !ends(&init) => Err(LabError::Timeout {
                what: format!("the end of machine `{}`", self.name),
                seconds: 10,
                detail: String::new(),
            }),
            _ => Ok(()),
        }
    }

    /// A command inside of it: all namespaces, its cgroup, an environment with nothing but PATH and HOME.
    /// Killing it kills the program (not what that has started).
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let target = format!("--target={}", self.pid()?);
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", PATH).env("HOME", "/root");
        command.args(["-c", ENTER, "enter"]).args(self.cgroups.entrances(&self.cgroup));
        // nsenter waits outside while the program runs inside; the program has to go when it goes.
        command.args(["--", "nsenter", &target, "--all", "setpriv", command::ENTERED]);
        command.arg(program.as_ref());
        Ok(command)
    }

    /// Runs a program to its end and returns its standard output.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, call: &[S]) -> Result<String> {
        let Some((program, arguments)) = call.split_first() else {
            return Err(LabError::Usage("no command was given".into()));
        };
        command::output(self.command(program)?.args(arguments))
    }

    /// The PID of its init as the machine sees it in whose PID namespace it lives.
    pub(crate) fn pid_in_host(&self) -> Result<u32> {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid()?));
        let status = fs::read_to_string(&path).at("read", &path)?;
        // From this process's namespace inwards: ours, the hosting machine's, its own.
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        number.ok_or_else(|| LabError::Broken(format!("{} tells no PIDs by namespace", path.display())))
    }

    /// Runs `work` on a thread in the machine's network namespace: sockets it opens belong there for ever.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = PathBuf::from(format!("/proc/{}/ns/net", self.pid()?));
        let namespace = File::open(&path).at("open", &path)?;
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
                use std::os::fd::AsFd;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .at("enter", &path)?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Waits for a killed machine's end, which orphans of this process may hold up.
fn ends(init: &Process) -> bool {
    (0..100).any(|_| {
        orphans::reap();
        init.wait(Duration::from_millis(100))
    })
}

//! Programs that go on in a machine when whoever started them has ended.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{At, LabError, Result};
use crate::machine::Machine;
use crate::wait;

/// Where programs that are brought in from the host are.
pub(crate) const BIN: &str = "/usr/local/bin";

/// Starts a program that outlives its starter, with its output in /var/log and its PID in /run.
const START: &str = r#"name=$1; shift
setsid "$@" </dev/null >>"/var/log/$name.log" 2>&1 &
echo $! >"/run/$name.pid""#;

impl Machine {
    /// Copies programs of the host into its /usr/local/bin. A running one is replaced, not changed.
    pub fn install(&self, programs: &[PathBuf]) -> Result<()> {
        for program in programs {
            let name = program.file_name().unwrap_or_default();
            let target = self.path(BIN)?.join(name);
            let fresh = target.with_extension("fresh");
            fs::copy(program, &fresh).at("copy", program)?;
            fs::rename(&fresh, &target).at("replace", &target)?;
        }
        Ok(())
    }

    /// Starts a program that goes on when this process ends. Its output is appended to /var/log/NAME.log.
    pub fn start_daemon<S: AsRef<std::ffi::OsStr>>(&self, name: &str, call: &[S]) -> Result<()> {
        let mut start = self.command("sh")?;
        start.args(["-c", START, "daemon", name]).args(call);
        crate::command::output(&mut start).map(drop)
    }

    /// Whether a program that [`start_daemon`](Self::start_daemon) started is still there, stopped or not.
    pub fn daemon_runs(&self, name: &str) -> Result<bool> {
        let Some(process) = self.daemon(name)? else { return Ok(false) };
        // One that has ended is a zombie until the machine's init has seen to it.
        let status = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let state = status.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
        Ok(state.is_some_and(|state| !matches!(state, "Z" | "X")))
    }

    /// Sends SIGKILL to a program that [`start_daemon`](Self::start_daemon) started, not to what it has started in
    /// turn, and returns when it is gone. Fails if it isn't there.
    pub fn kill_daemon(&self, name: &str) -> Result<()> {
        self.signal_daemon(name, "KILL")?;
        wait::until(&format!("the end of {name} on {}", self.name()), Duration::from_secs(10), || {
            Ok((!self.daemon_runs(name)?).then_some(()))
        })
    }

    /// Sends it a signal, as kill(1) names it.
    pub(crate) fn signal_daemon(&self, name: &str, signal: &str) -> Result<()> {
        let process = self.daemon(name)?;
        let pid = process.as_deref().and_then(Path::file_name).ok_or_else(|| {
            LabError::Broken(format!("{name} was never started on {} since it is up", self.name()))
        })?;
        let mut kill = self.command("kill")?;
        crate::command::output(kill.args(["-s", signal]).arg(pid)).map(drop)
    }

    /// Its folder in the machine's /proc, there or not; `None` if it was never started.
    fn daemon(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = self.path(format!("/run/{name}.pid"))?;
        match fs::read_to_string(&path) {
            Ok(pid) => Ok(Some(self.path("/proc")?.join(pid.trim()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("read", path),
        }
    }

    /// What a daemon has said so far.
    pub fn log(&self, name: &str) -> Result<String> {
        let path = self.path(format!("/var/log/{name}.log"))?;
        fs::read_to_string(&path).at("read", path)
    }

    /// The last lines of a daemon's log added to an error that it may explain.
    pub(crate) fn with_log(&self, error: LabError, name: &str) -> LabError {
        let log = self.log(name).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n");
        LabError::Broken(format!("{error}\nlast lines of {name}'s log on {}:\n{tail}", self.name()))
    }

    /// Writes a file of it, with the folders that lead there.
    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        fs::write(&path, text).at("write", path)
    }
}

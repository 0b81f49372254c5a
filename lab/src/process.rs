//! A process that outlives whoever started it, named so that a recycled PID is never taken for it.

use std::fs;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde::{Deserialize, Serialize};

/// A process by PID (as this process sees it) and start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pid: u32,
    /// Clock ticks since boot, field 22 of proc_pid_stat(5).
    started: u64,
}

impl Process {
    /// The process that has this PID now, if there is one.
    pub fn with_pid(pid: u32) -> Option<Self> {
        Some(Process { pid, started: start_time(pid)? })
    }

    /// The PID as the host sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs. A zombie is no longer alive.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Sends SIGKILL if it is still there.
    pub fn kill(&self) {
        if let Some(pid) = self.live_pid() {
            // It may end between the look and the kill; that is as good as killed.
            kill_process(pid, Signal::KILL).ok();
        }
    }

    /// Waits until it is gone, all its threads and (for a PID namespace's init) all that ran in the
    /// namespace included. Returns whether it is.
    pub fn wait(&self, timeout: Duration) -> bool {
        if let Some(pid) = self.live_pid()
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        {
            let timeout =
                Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).ok();
        }
        !self.is_alive()
    }

    fn live_pid(&self) -> Option<Pid> {
        self.is_alive().then(|| Pid::from_raw(self.pid as i32)).flatten()
    }
}

/// When a process was started, `None` when it is gone or a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, field 2, may hold anything but ends at the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_known_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::with_pid(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(!process.wait(Duration::ZERO));
        process.kill();
        assert!(process.wait(Duration::from_secs(10)));
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_it() {
        let me = Process::with_pid(std::process::id()).unwrap();
        assert!(!Process { started: me.started + 1, ..me }.is_alive());
    }
}

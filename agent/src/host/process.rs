//! Looking at processes of the host.

use std::collections::HashMap;

use procfs::process::{Process, Status};
use procfs::{ProcError, ProcResult};

/// One task group of a container.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    /// Its PID on the host.
    pub pid: u32,
    /// Its parent's PID on the host.
    pub parent: u32,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, …
    pub state: char,
    /// Its tracer's PID, 0 for none.
    pub tracer: i32,
    /// Its program's name.
    pub name: String,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// Whether a process does what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stillness {
    /// It may run code of its own.
    Runs,
    /// It has been told to stop, and runs none any more.
    Stopping,
    /// All its threads are stopped, or it has ended.
    Still,
}

/// SIGSTOP in the masks of `/proc/PID/status`.
const STOP: u64 = 1 << (19 - 1);

/// How still a process is.
pub fn stillness(pid: u32) -> ProcResult<Stillness> {
    match look_at_threads(pid) {
        Err(error) if is_gone(&error) => Ok(Stillness::Still),
        looked => looked,
    }
}

fn look_at_threads(pid: u32) -> ProcResult<Stillness> {
    let process = Process::new(pid.cast_signed())?;
    // First the signal and then the threads: the kernel takes SIGSTOP off the list and stops the thread that takes it
    // in one (do_signal_stop), so that a stop under way is seen in the one or in the other.
    let status = process.status()?;
    let told = (status.sigpnd | status.shdpnd) & STOP != 0;
    let (mut stopped, mut others) = (0, 0);
    for thread in process.tasks()? {
        match thread.and_then(|thread| thread.stat()) {
            Ok(stat) if stat.state == 'T' => stopped += 1,
            Ok(stat) if matches!(stat.state, 'Z' | 'X') => {}
            Ok(_) => others += 1,
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(match (others, stopped) {
        (0, _) => Stillness::Still,
        (_, 1..) => Stillness::Stopping,
        _ if told => Stillness::Stopping,
        _ => Stillness::Runs,
    })
}

/// Files in `/proc` of a process that has ended are missing, or fail to be read if they were open by then.
pub fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()),
        _ => false,
    }
}

/// Looks at those processes; ones that are gone are left out.
pub fn look(pids: impl IntoIterator<Item = u32>) -> ProcResult<Vec<TaskGroup>> {
    let mut found = Vec::new();
    for pid in pids {
        match Process::new(pid.cast_signed()).and_then(|process| process.status()) {
            Ok(status) => found.push(task_group(pid, status)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn task_group(pid: u32, status: Status) -> TaskGroup {
    TaskGroup {
        pid,
        parent: status.ppid.cast_unsigned(),
        state: status.state.chars().next().unwrap_or('?'),
        tracer: status.tracerpid,
        name: status.name,
        resident: status.vmrss.unwrap_or(0) * 1024,
    }
}

/// Those of `groups` that don't descend from `init`: what was brought in from outside by an exec.
pub fn outside_tree(groups: &[TaskGroup], init: u32) -> Vec<&TaskGroup> {
    let parents: HashMap<u32, u32> = groups.iter().map(|group| (group.pid, group.parent)).collect();
    let descends = |mut pid: u32| {
        // A parent is always another group of the container until its init is reached, so this ends.
        for _ in 0..=groups.len() {
            if pid == init {
                return true;
            }
            match parents.get(&pid) {
                Some(&parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    groups.iter().filter(|group| !descends(group.pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pid: u32, parent: u32) -> TaskGroup {
        TaskGroup { pid, parent, state: 'S', tracer: 0, name: "x".into(), resident: 0 }
    }

    #[test]
    fn a_process_that_was_told_to_stop_is_no_longer_one_that_runs() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = rustix::process::Pid::from_child(&child);
        assert_eq!(stillness(child.id()).unwrap(), Stillness::Runs);
        for _ in 0..200 {
            rustix::process::kill_process(id, rustix::process::Signal::STOP).unwrap();
            // At whatever point of its way to a stop it is.
            assert_ne!(stillness(child.id()).unwrap(), Stillness::Runs);
            rustix::process::waitpid(Some(id), rustix::process::WaitOptions::UNTRACED).unwrap();
            assert_eq!(stillness(child.id()).unwrap(), Stillness::Still);
            rustix::process::kill_process(id, rustix::process::Signal::CONT).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stillness(child.id()).unwrap(), Stillness::Still);
    }

    #[test]
    fn an_exec_is_outside_the_tree_with_its_children() {
        let groups = [group(10, 1), group(11, 10), group(12, 11), group(20, 2), group(21, 20)];
        let outside: Vec<u32> = outside_tree(&groups, 10).iter().map(|group| group.pid).collect();
        assert_eq!(outside, [20, 21]);
    }
}

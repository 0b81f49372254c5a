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

/// Looks at those processes; ones that are gone are left out.
pub fn look(pids: impl IntoIterator<Item = u32>) -> ProcResult<Vec<TaskGroup>> {
    let mut found = Vec::new();
    for pid in pids {
        match Process::new(pid.cast_signed()).and_then(|process| process.status()) {
            Ok(status) => found.push(task_group(pid, status)),
            Err(ProcError::NotFound(_)) => {}
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
    fn an_exec_is_outside_the_tree_with_its_children() {
        let groups = [group(10, 1), group(11, 10), group(12, 11), group(20, 2), group(21, 20)];
        let outside: Vec<u32> = outside_tree(&groups, 10).iter().map(|group| group.pid).collect();
        assert_eq!(outside, [20, 21]);
    }
}

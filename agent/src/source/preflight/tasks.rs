//! What the container's running tasks forbid.

use procfs::process::Process;
use procfs::{ProcError, ProcResult};
use transship_proto::{Fault, Reason};

use crate::host::process::{TaskGroup, outside_tree};

/// Every reason in the tasks' states and namespaces not to move them. `init` is the container's first process.
pub fn refusals(groups: &[TaskGroup], init: u32) -> ProcResult<Vec<Fault>> {
    let mut found = Vec::new();
    if let Some(exec) = outside_tree(groups, init).first() {
        let what = format!(
            "process {} ({}) was brought in by an exec, and a dump would leave it out; end the exec session first",
            exec.pid, exec.name
        );
        found.push(Fault::new(Reason::ExecSession, what));
    }
    for group in groups {
        let who = format!("process {} ({})", group.pid, group.name);
        if group.tracer != 0 {
            let what = format!("{who} is traced by process {}; detach the debugger", group.tracer);
            found.push(Fault::new(Reason::TracedTask, what));
        }
        if group.state == 'T' {
            let what = format!(
                "{who} is stopped by a signal, which would not be kept apart from being held; continue it (SIGCONT)"
            );
            found.push(Fault::new(Reason::StoppedTask, what));
        }
    }
    for group in groups {
        found.extend(namespace_refusals(group, init)?);
    }
    Ok(found)
}

fn namespace_refusals(group: &TaskGroup, init: u32) -> ProcResult<Vec<Fault>> {
    let mut found = Vec::new();
    let Some(process) = still_there(Process::new(group.pid.cast_signed()))? else { return Ok(found) };
    if group.state == 'Z' {
        if process.stat()?.num_threads > 1 {
            let what = format!(
                "the main thread of process {} ({}) has ended while others live, which CRIU can't dump",
                group.pid, group.name
            );
            found.push(Fault::new(Reason::DeadMainThread, what));
        }
        return Ok(found);
    }
    let (Some(own), Some(first)) = (
        still_there(process.namespaces())?,
        still_there(Process::new(init.cast_signed()).and_then(|init| init.namespaces()))?,
    ) else {
        return Ok(found);
    };
    for kind in ["user", "pid", "net"] {
        let identifier = |namespaces: &procfs::process::Namespaces| {
            namespaces.0.get(std::ffi::OsStr::new(kind)).map(|namespace| namespace.identifier)
        };
        if identifier(&own) != identifier(&first) {
            let what = format!(
                "process {} ({}) has a {kind} namespace of its own inside the container, which CRIU can't dump",
                group.pid, group.name
            );
            found.push(Fault::new(Reason::NestedNamespace, what));
        }
    }
    Ok(found)
}

/// A process may end while it is being looked at; that is no error.
pub(super) fn still_there<T>(result: ProcResult<T>) -> ProcResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ProcError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

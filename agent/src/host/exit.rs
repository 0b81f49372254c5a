//! The end of a process that isn't a child, as an event.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use transship_proto::{Fault, Reason};

/// A process whose end can be waited for; it is the one that had the PID when this was made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Exit(Arc<AsyncFd<OwnedFd>>);

impl Exit {
    /// Of the process that has that PID now.
    pub fn of(pid: u32) -> Result<Self, Fault> {
        let gone =
            |why: String| Fault::new(Reason::WorkloadEnded, format!("process {pid} can't be watched: {why}"));
        let id = Pid::from_raw(pid.cast_signed()).ok_or_else(|| gone("there is none".into()))?;
        let process = pidfd_open(id, PidfdFlags::NONBLOCK).map_err(|errno| gone(errno.to_string()))?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe for descriptors that aren't owned; this one is"
        )]
        let process =
            AsyncFd::with_interest(process, Interest::READABLE).map_err(|error| gone(error.to_string()))?;
        Ok(Self(Arc::new(process)))
    }

    /// Whether it has ended.
    pub fn has_come(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(self.0.get_ref(), PollFlags::IN)], Some(&now)) == Ok(1)
    }

    /// Returns when it has ended.
    pub async fn wait(&self) {
        // An error means that the runtime is being shut down: nobody is left to hear of the process.
        if self.0.ready(Interest::READABLE).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let exit = Exit::of(child.id().unwrap()).unwrap();
        let early = tokio::time::timeout(std::time::Duration::from_millis(20), exit.wait()).await;
        assert!(early.is_err() && !exit.has_come());
        child.start_kill().unwrap();
        exit.wait().await;
        assert!(exit.has_come());
        child.wait().await.unwrap();
    }
}

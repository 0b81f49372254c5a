use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::stuck::task_state;

/// Which of the two kinds of cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A hierarchy for each controller; here the freezer's.
    V1,
    /// One hierarchy.
    V2,
}

/// What the freezer says of a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its tasks may run.
    Thawed,
    /// It is to be frozen, and at least one task isn't yet.
    Freezing,
    /// No task of it runs.
    Frozen,
}

/// A cgroup with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cgroup {
    path: PathBuf,
    version: Version,
}

/// Why there is no cgroup to work with.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No freezer of either version is mounted where it was looked for.
    #[error("neither cgroup v2 nor the freezer of v1 is mounted at {}", .0.display())]
    NotMounted(PathBuf),
    /// The process is in no cgroup of its own, so freezing it would freeze the host.
    #[error("process {0} is in the root cgroup; a container has a cgroup of its own")]
    Root(u32),
    /// The cgroup holds the process that asks, which would stop itself.
    #[error("cgroup {} holds this very process and can't be frozen by it", .0.display())]
    Ourselves(PathBuf),
    /// The path that the kernel names leads out of what is visible here.
    #[error(
        "process {pid} is in cgroup {path:?}, which is not visible from this cgroup namespace; run on the host"
    )]
    Invisible {
        /// The process.
        pid: u32,
        /// What `/proc/PID/cgroup` says.
        path: String,
    },
    /// `/proc/PID/cgroup` names no cgroup in the hierarchy that is mounted.
    #[error("process {0} is in no cgroup of the mounted hierarchy")]
    NoEntry(u32),
    /// The folder can't be frozen: no cgroup, or the root of one.
    #[error("{} is not a cgroup that can be frozen", .0.display())]
    NotFreezable(PathBuf),
    /// The process is gone, or can't be looked at.
    #[error("/proc/{pid}/cgroup: {source}")]
    Proc {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The tasks of a cgroup could not be listed, or its state not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct TasksError {
    /// The file of the cgroup.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl TasksError {
    /// The cgroup is gone, and with it every process that was in it.
    pub fn is_gone(&self) -> bool {
        is_gone(&self.source)
    }
}

/// `ENODEV` is what a file of a removed cgroup says that was opened before.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// Where cgroup v2 lies below `mounts`, or else the freezer of v1. Where both are there (hybrid), the
/// container runtimes use v1.
pub(crate) fn hierarchy(mounts: &Path) -> Result<(PathBuf, Version), FindError> {
    let unified = mounts.join("unified");
    let freezer = mounts.join("freezer");
    if mounts.join("cgroup.controllers").exists() {
        Ok((mounts.to_owned(), Version::V2))
    } else if freezer.join("cgroup.procs").exists() {
        Ok((freezer, Version::V1))
    } else if unified.join("cgroup.controllers").exists() {
        Ok((unified, Version::V2))
    } else {
        Err(FindError::NotMounted(mounts.to_owned()))
    }
}

impl Cgroup {
    /// The cgroup of a process, where cgroups are mounted at `mounts` (`/sys/fs/cgroup`).
    ///
    /// # Errors
    /// Whatever makes it unsafe to freeze is an error here.
    pub fn of_pid(pid: u32, mounts: &Path) -> Result<Self, FindError> {
        let (hierarchy, version) = hierarchy(mounts)?;
        let entry = entry(pid, version)?;
        let relative = Path::new(&entry).strip_prefix("/").unwrap_or(Path::new(&entry));
        if relative.as_os_str().is_empty() {
            return Err(FindError::Root(pid));
        }
        if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(FindError::Invisible { pid, path: entry });
        }
        let path = hierarchy.join(relative);
        if Path::new(&self::entry(std::process::id(), version)?).starts_with(&entry) {
            return Err(FindError::Ourselves(path));
        }
        Self::at(path)
    }

    /// Where the cgroup of that path in the hierarchy (`/kubepods/…`) has its folder, if it is there, where cgroups are
    /// mounted at `mounts` (`/sys/fs/cgroup`).
    ///
    /// # Errors
    /// [`FindError::NotMounted`]; [`FindError::NotFreezable`] for a path that is none.
    pub fn folder(mounts: &Path, path: &str) -> Result<PathBuf, FindError> {
        let folder = hierarchy(mounts)?.0.join(path.trim_start_matches('/'));
        let inside =
            Path::new(path).components().all(|c| matches!(c, Component::Normal(_) | Component::RootDir));
        if inside && !path.trim_matches('/').is_empty() {
            Ok(folder)
        } else {
            Err(FindError::NotFreezable(folder))
        }
    }

    /// The cgroup whose folder is `path`.
    ///
    /// # Errors
    /// [`FindError::NotFreezable`].
    pub fn at(path: impl Into<PathBuf>) -> Result<Self, FindError> {
        let path = path.into();
        if path.join("cgroup.freeze").exists() {
            Ok(Self { path, version: Version::V2 })
        } else if path.join("freezer.state").exists() {
            Ok(Self { path, version: Version::V1 })
        } else {
            Err(FindError::NotFreezable(path))
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its kind.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the freezer says now.
    ///
    /// # Errors
    /// [`TasksError`]; see [`TasksError::is_gone`].
    pub fn state(&self) -> Result<State, TasksError> {
        Ok(match self.version {
            Version::V1 => match self.read("freezer.state")?.trim_end() {
                "FROZEN" => State::Frozen,
                "FREEZING" => State::Freezing,
                _ => State::Thawed,
            },
            Version::V2 if is_set(&self.read("cgroup.events")?, "frozen") => {
                if self.stands_still()? {
                    State::Frozen
                } else {
                    State::Freezing
                }
            }
            Version::V2 if self.read("cgroup.freeze")?.trim_end() == "1" => State::Freezing,
            Version::V2 => State::Thawed,
        })
    }

    /// Whether what cgroup v2 calls frozen is. Of a cgroup that has both tasks and cgroups below it, the
    /// kernel says so as soon as those below are frozen, without a look at its own tasks (seen on 6.18;
    /// cgroup_propagate_frozen). A task that was told to freeze sleeps interruptibly only once it has.
    fn stands_still(&self) -> Result<bool, TasksError> {
        let below = self.below()?;
        if below.is_empty() {
            return Ok(true);
        }
        if self.own("cgroup.threads")?.iter().any(|tid| may_run(*tid)) {
            return Ok(false);
        }
        for child in below {
            match child.stands_still() {
                Ok(true) => {}
                Err(e) if e.is_gone() => {}
                other => return other,
            }
        }
        Ok(true)
    }

    /// The processes in it and below, by the ids of their main threads, each once.
    ///
    /// # Errors
    /// [`TasksError`]; a cgroup below that goes while it is read is no error.
    pub fn processes(&self) -> Result<Vec<u32>, TasksError> {
        self.collect("cgroup.procs")
    }

    /// The threads in it and below.
    ///
    /// # Errors
    /// As [`Cgroup::processes`].
    pub fn threads(&self) -> Result<Vec<u32>, TasksError> {
        match self.version {
            Version::V1 => self.collect("tasks"),
            Version::V2 => self.collect("cgroup.threads"),
        }
    }

    fn collect(&self, file: &str) -> Result<Vec<u32>, TasksError> {
        let mut ids = self.own(file)?;
        for child in self.below()? {
            match child.collect(file) {
                Ok(more) => ids.extend(more),
                Err(e) if e.is_gone() => {}
                Err(e) => return Err(e),
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// The ids in one of its own files.
    fn own(&self, file: &str) -> Result<Vec<u32>, TasksError> {
        Ok(self.read(file)?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// The cgroups right below it.
    fn below(&self) -> Result<Vec<Self>, TasksError> {
        let mut below = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| self.error("", e))? {
            let entry = entry.map_err(|e| self.error("", e))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below.push(Self { path: entry.path(), version: self.version });
            }
        }
        Ok(below)
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, TasksError> {
        fs::read_to_string(self.path.join(file)).map_err(|e| self.error(file, e))
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.path.join(file), value)
    }

    fn error(&self, file: &str, source: io::Error) -> TasksError {
        TasksError { path: self.path.join(file), source }
    }
}

/// Running, or in a sleep that it will wake from into the kernel's work and not into the freezer.
fn may_run(tid: u32) -> bool {
    matches!(task_state(tid), Some('R' | 'D'))
}

/// Whether `name` is 1 in a file of lines such as `frozen 1`.
pub(crate) fn is_set(text: &str, name: &str) -> bool {
    text.lines().any(|line| line.split_once(' ') == Some((name, "1")))
}

/// The path in the line of `/proc/PID/cgroup` for the hierarchy in which a process is frozen.
fn entry(pid: u32, version: Version) -> Result<String, FindError> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .map_err(|source| FindError::Proc { pid, source })?;
    let controller = match version {
        Version::V1 => Controller::V1("freezer"),
        Version::V2 => Controller::Unified,
    };
    parse_entry(&text, controller).ok_or(FindError::NoEntry(pid))
}

/// Whose line of `/proc/PID/cgroup`.
#[derive(Clone, Copy)]
pub(crate) enum Controller<'a> {
    /// `N:…,NAME,…:PATH`; a hierarchy without a controller is there as `name=NAME`.
    V1(&'a str),
    /// `0::PATH`.
    Unified,
}

pub(crate) fn parse_entry(text: &str, controller: Controller<'_>) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = match controller {
            Controller::V1(name) => {
                controllers.split(',').any(|one| one.strip_prefix("name=").unwrap_or(one) == name)
            }
            Controller::Unified => number == "0" && controllers.is_empty(),
        };
        ours.then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "9:name=systemd:/s\n6:cpu,freezer:/k8s/pod:1/c\n1:cpu:/x\n0::/u\n";

    #[test]
    fn the_line_of_the_mounted_hierarchy_counts() {
        assert_eq!(parse_entry(HYBRID, Controller::V1("freezer")).unwrap(), "/k8s/pod:1/c");
        assert_eq!(parse_entry(HYBRID, Controller::V1("systemd")).unwrap(), "/s");
        assert_eq!(parse_entry(HYBRID, Controller::Unified).unwrap(), "/u");
        assert_eq!(parse_entry("1:cpu:/x\n", Controller::V1("freezer")), None);
        assert_eq!(parse_entry("garbage\n0:", Controller::Unified), None);
    }

    #[test]
    fn flags_are_read_by_their_names() {
        let events = "populated 1\nfrozen 0\n";
        assert!(is_set(events, "populated"));
        assert!(!is_set(events, "frozen"));
        assert!(!is_set("notfrozen 1\nfrozen 10\n", "frozen"));
    }

    #[test]
    fn what_is_no_cgroup_is_not_taken_for_one() {
        assert!(matches!(Cgroup::at("/proc"), Err(FindError::NotFreezable(_))));
        assert!(matches!(Cgroup::of_pid(1, Path::new("/proc")), Err(FindError::NotMounted(_))));
    }
}

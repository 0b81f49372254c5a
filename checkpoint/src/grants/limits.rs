//! Resource limits.

use std::fmt;

/// Hard limits by the kernel's numbers; none where nothing is said of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits([Option<u64>; Resource::COUNT]);

/// A resource that has a limit, by the kernel's number (`asm-generic/resource.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource(usize);

/// Name in a bundle (without `RLIMIT_`), and in `/proc/PID/limits` (`fs/proc/base.c`), by the kernel's numbers.
const NAMES: [(&str, &str); Resource::COUNT] = [
    ("CPU", "Max cpu time"),
    ("FSIZE", "Max file size"),
    ("DATA", "Max data size"),
    ("STACK", "Max stack size"),
    ("CORE", "Max core file size"),
    ("RSS", "Max resident set"),
    ("NPROC", "Max processes"),
    ("NOFILE", "Max open files"),
    ("MEMLOCK", "Max locked memory"),
    ("AS", "Max address space"),
    ("LOCKS", "Max file locks"),
    ("SIGPENDING", "Max pending signals"),
    ("MSGQUEUE", "Max msgqueue size"),
    ("NICE", "Max nice priority"),
    ("RTPRIO", "Max realtime priority"),
    ("RTTIME", "Max realtime timeout"),
];

/// What the kernel takes for no limit.
pub const UNLIMITED: u64 = u64::MAX;

impl Resource {
    const COUNT: usize = 16;

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// By its name in a bundle: `RLIMIT_NOFILE`.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("RLIMIT_")?;
        NAMES.iter().position(|(known, _)| *known == name).map(Self)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RLIMIT_{}", NAMES[self.0].0)
    }
}

impl Limits {
    /// The resource's hard limit, if anything is said of it.
    pub fn get(&self, resource: Resource) -> Option<u64> {
        self.0[resource.0]
    }

    /// Says the resource's hard limit.
    pub fn set(&mut self, resource: Resource, hard: u64) {
        self.0[resource.0] = Some(hard);
    }

    /// The hard limits of `/proc/PID/limits`; none if it isn't such a file.
    pub fn from_proc(text: &str) -> Option<Self> {
        let mut limits = Self::default();
        for (resource, (_, title)) in Resource::all().zip(NAMES) {
            let line = text.lines().find_map(|line| line.strip_prefix(title))?;
            let hard = line.split_ascii_whitespace().nth(1)?;
            limits.set(resource, if hard == "unlimited" { UNLIMITED } else { hard.parse().ok()? });
        }
        Some(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_limits_can_be_read() {
        let limits = Limits::from_proc(&std::fs::read_to_string("/proc/self/limits").unwrap()).unwrap();
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let nofile = Resource::named("RLIMIT_NOFILE").unwrap();
        assert_eq!(limits.get(nofile), Some(files.unwrap_or(UNLIMITED)));
        assert!(Resource::all().all(|resource| limits.get(resource).is_some()));
    }

    #[test]
    fn text_that_lacks_a_limit_is_refused() {
        assert_eq!(Limits::from_proc("Max cpu time   unlimited   unlimited   seconds\n"), None);
    }
}

//! Capability sets.

use std::fmt;
use std::ops::BitOr;

/// A set of capabilities, a bit each, by the kernel's numbers (`linux/capability.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSet(u64);

/// The names in the order of the kernel's numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Setting group ids at will.
    pub const SETGID: Self = Self(1 << 6);
    /// Setting user ids at will.
    pub const SETUID: Self = Self(1 << 7);
    /// Mounting, among many other things.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// Raising one's limits.
    pub const SYS_RESOURCE: Self = Self(1 << 24);

    /// By the kernel's bits, as `/proc/PID/status` gives them.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// By the names that an OCI bundle uses (`CAP_CHOWN`); none for a name that no kernel known here has.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("CAP_")?;
        let number = NAMES.iter().position(|known| *known == name)?;
        Some(Self(1 << number))
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for CapSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Self> for CapSet {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        sets.into_iter().fold(Self::EMPTY, Self::bitor)
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for number in (0..u64::BITS as usize).filter(|number| self.0 & (1 << number) != 0) {
            match NAMES.get(number) {
                Some(name) => write!(f, "{separator}CAP_{name}")?,
                None => write!(f, "{separator}capability {number}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_at_the_kernels_numbers() {
        assert_eq!(CapSet::named("CAP_SYS_ADMIN"), Some(CapSet::SYS_ADMIN));
        assert_eq!(CapSet::named("CAP_SYS_RESOURCE"), Some(CapSet::SYS_RESOURCE));
        assert_eq!(CapSet::named("CAP_SETUID"), Some(CapSet::SETUID));
        assert_eq!(CapSet::named("CAP_SETGID"), Some(CapSet::SETGID));
        assert_eq!(CapSet::named("CAP_CHECKPOINT_RESTORE"), Some(CapSet::from_bits(1 << 40)));
        assert_eq!(CapSet::named("SYS_ADMIN"), None);
    }

    #[test]
    fn a_set_is_told_by_name() {
        let set = CapSet::from_bits(1 << 13 | 1 << 21 | 1 << 60);
        assert_eq!(set.to_string(), "CAP_NET_RAW, CAP_SYS_ADMIN, capability 60");
    }
}

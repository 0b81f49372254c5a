//! System call numbers of the architectures that a filter on this machine may see.

use std::ops::Range;

/// The numbers that are asked about: more than any architecture here has.
pub(super) const NUMBERS: Range<u32> = 0..1024;

/// An architecture in a filter's eyes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    /// x86-64's calls with 32-bit pointers.
    X32,
    X86,
    Aarch64,
}

/// `__X32_SYSCALL_BIT`.
const X32_BIT: u32 = 0x4000_0000;

/// x32's own numbers, from 512 on (`syscall_64.tbl`).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

impl Arch {
    /// Those whose calls this machine's kernel takes, the native one first.
    pub fn of_this_machine() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") { &[Self::X86_64, Self::X32, Self::X86] } else { &[Self::Aarch64] }
    }

    /// Whether it is the first of [`of_this_machine`](Self::of_this_machine), which profiles needn't name.
    pub fn is_native(self) -> bool {
        Self::of_this_machine().first() == Some(&self)
    }

    /// What `seccomp_data` has as its `arch` (`linux/audit.h`).
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// What `seccomp_data` has as its `nr`.
    pub fn number(self, number: u32) -> u32 {
        if self == Self::X32 { number | X32_BIT } else { number }
    }

    /// The bits of an argument that a filter made of a profile looks at.
    pub fn argument_bits(self) -> u64 {
        match self {
            Self::X86_64 | Self::Aarch64 => u64::MAX,
            Self::X32 | Self::X86 => u32::MAX.into(),
        }
    }

    /// The call's name, if it is one.
    pub fn name(self, number: u32) -> Option<&'static str> {
        let number = number as usize;
        match self {
            Self::X86_64 if number >= 512 => None,
            Self::X32 if number >= 512 => X32_OWN.get(number - 512).copied(),
            Self::X86_64 | Self::X32 => syscalls::x86_64::Sysno::new(number).map(|call| call.name()),
            Self::X86 => syscalls::x86::Sysno::new(number).map(|call| call.name()),
            Self::Aarch64 => syscalls::aarch64::Sysno::new(number).map(|call| call.name()),
        }
    }

    /// As profiles name it.
    pub fn profile_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X32 => "SCMP_ARCH_X32",
            Self::X86 => "SCMP_ARCH_X86",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }

    /// What tells its calls from the native ones in messages.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::X86_64 | Self::Aarch64 => "",
            Self::X32 => " (x32)",
            Self::X86 => " (32-bit)",
        }
    }
}

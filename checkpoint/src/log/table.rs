//! CRIU's words (4.2, the strings of its `pr_err` and `pr_perror`) and what they mean. The first match counts.

/// A failure that is known.
pub(super) struct Known {
    /// All of these are in the line.
    words: &'static [&'static str],
    pub reason: &'static str,
    pub message: &'static str,
    pub mend: &'static str,
}

impl Known {
    pub fn is_meant_by(&self, line: &str) -> bool {
        self.words.iter().all(|word| line.contains(word))
    }
}

const fn known(
    words: &'static [&'static str],
    reason: &'static str,
    message: &'static str,
    mend: &'static str,
) -> Known {
    Known { words, reason, message, mend }
}

pub(super) const TABLE: &[Known] = &[
    known(
        &[": No space left on device"],
        "NoSpace",
        "There was no room left for what CRIU had to write.",
        "give the agent's run directory, or the container's file system, more room",
    ),
    // A descriptor of io_uring can't be sent over a socket, which is how CRIU gets hold of descriptors.
    known(
        &["send_fds failed (-22)"],
        "IoUring",
        "A process has an io_uring instance, which CRIU can't dump.",
        "switch io_uring off in the workload",
    ),
    known(
        &["Unknown shit", "[io_uring]"],
        "IoUring",
        "A process has an io_uring instance, which CRIU can't dump.",
        "switch io_uring off in the workload",
    ),
    known(
        &["Unknown shit"],
        "UnsupportedMapping",
        "A process has something mapped into its memory that CRIU can't dump.",
        "the line names it; switch off what maps it",
    ),
    known(
        &["Unsupported proto 262"],
        "UnsupportedSocket",
        "A process has a multipath TCP socket, which CRIU can't dump; Go programs have them since Go 1.24.",
        "set GODEBUG=multipathtcp=0 in the container's environment",
    ),
    known(
        &["Unsupported proto"],
        "UnsupportedSocket",
        "A process has a socket of a protocol that CRIU can't dump.",
        "the line has the protocol's number; have the workload close the socket before it is migrated",
    ),
    known(
        &["Unknown socket collected"],
        "UnsupportedSocket",
        "A process has a socket of a family that CRIU can't dump.",
        "the line has the family's number; have the workload close the socket before it is migrated",
    ),
    known(
        &["External socket is used"],
        "ExternalUnixSocket",
        "A unix socket is connected to a process outside of the container.",
        "have the workload close it before it is migrated, or move its peer into the container",
    ),
    known(
        &["Can't dump half of stream unix connection"],
        "ExternalUnixSocket",
        "A unix socket is connected to a process outside of the container.",
        "have the workload close it before it is migrated, or move its peer into the container",
    ),
    known(
        &["Found dangling tty"],
        "TerminalAttached",
        "A terminal from outside is attached to the container.",
        "start the container without a terminal",
    ),
    known(
        &["Found slave peer index"],
        "TerminalAttached",
        "A terminal from outside is attached to the container.",
        "start the container without a terminal",
    ),
    known(
        &["Can't dump ghost file"],
        "GhostFileTooLarge",
        "An open file that has been removed is larger than CRIU's limit for such files.",
        "raise ghost-limit, or have the workload close the file",
    ),
    known(
        &["Can't dump file", "of that type"],
        "UnsupportedFile",
        "A process has a descriptor of a kind that CRIU can't dump.",
        "the line names the kind; have the workload close it before it is migrated",
    ),
    known(
        &["Can't open file", "No such file or directory"],
        "MissingFile",
        "A file that a process has open isn't there on the target.",
        "the line names it: see that image and volumes are the same on both nodes",
    ),
    known(
        &["has bad size"],
        "FileSizeMismatch",
        "A file that a process has open has another size on the target.",
        "the line names it: see that the image is the same and that nobody else writes to the volume",
    ),
    known(
        &["has bad mode"],
        "FileModeMismatch",
        "A file that a process has open has another mode on the target.",
        "the line names it: see that image and volumes are the same on both nodes",
    ),
    known(
        &["Can't dump nested"],
        "NestedNamespace",
        "A process made a namespace of its own that CRIU can't dump.",
        "switch off the workload's own sandboxing; browsers call it --no-sandbox",
    ),
    known(
        &["Unable to dump more than one netns"],
        "NestedNamespace",
        "A process made a network namespace of its own, which CRIU can't dump.",
        "switch off the workload's own sandboxing; browsers call it --no-sandbox",
    ),
    known(
        &["Unable to convert uid or gid"],
        "NestedNamespace",
        "A process made a user namespace of its own, which CRIU can't dump.",
        "switch off the workload's own sandboxing; browsers call it --no-sandbox",
    ),
    known(
        &["In-flight connection"],
        "InFlightConnection",
        "A connection was coming in that the workload hadn't accepted yet.",
        "try again, or dump with skip-in-flight: the client then sees one retry",
    ),
    known(
        &["Connected TCP socket"],
        "EstablishedTcp",
        "A TCP connection is established, and it wasn't said whether to keep or to close it.",
        "dump with tcp-close or tcp-established",
    ),
    known(
        &["Failed to create", "set: File exists"],
        "SysvIpcExists",
        "A System V IPC object of that key is in the target's sandbox already.",
        "remove it there (ipcrm), or make the sandbox anew",
    ),
    known(
        &["Zombies with threads are not supported"],
        "DeadMainThread",
        "A process's first thread has ended while others live, which CRIU can't dump.",
        "have the workload keep its main thread",
    ),
    known(
        &["Can't fork for", "File exists"],
        "PidTaken",
        "A process id that the container had is taken in the target's PID namespace.",
        "nothing else may have started in the target's sandbox: make it anew",
    ),
    known(
        &["Can't get rlimit"],
        "NoSysResource",
        "CRIU may not read the limits of another user's process.",
        "run the agent with CAP_SYS_RESOURCE",
    ),
    known(
        &["wrong aio"],
        "AioMismatch",
        "A process uses Linux AIO, and the target has another number of possible CPUs, on which its ring's size depends.",
        "choose a target with as many possible CPUs, or switch AIO off in the workload",
    ),
    known(
        &["Can't bind inet socket", "Cannot assign requested address"],
        "AddressMissing",
        "A socket is bound to an address that the target's sandbox doesn't have.",
        "have the workload listen on all addresses, or keep the address",
    ),
    known(
        &["Can't bind inet socket", "Address already in use"],
        "AddressInUse",
        "A socket is bound to a port that is taken in the target's sandbox.",
        "nothing else may listen there: make the sandbox anew",
    ),
    known(
        &["Timeout reached"],
        "CriuTimedOut",
        "A task couldn't be stopped in time: it hangs in the kernel, or waits for a vfork, or was stopped by a signal.",
        "look for a task in state D or T in the container, and try again",
    ),
    known(
        &["capabilities do not match run time"],
        "CpuMismatch",
        "The target's processor lacks what the workload may have found on the source's.",
        "choose a target with the same or a newer processor",
    ),
    known(
        &["Can't dump that handle"],
        "FileWatchOnRoot",
        "A process watches a file of its root file system (inotify, fanotify), which this node's CRIU can't dump.",
        "watch files in a volume instead, or run a newer CRIU",
    ),
    known(
        &["No parent found for mountpoint"],
        "OutsideMountNamespace",
        "CRIU doesn't run in the node's own mount namespace.",
        "run CRIU and the runtime in the mount namespace of the node's first process",
    ),
    known(
        &["Can't lookup mount="],
        "OutsideFile",
        "A process has a file open that lies in none of the container's mounts.",
        "the line names it: it came from outside (an inherited descriptor, an exec's), have it closed",
    ),
];

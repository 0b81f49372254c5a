//! CRIU's log, translated.
//!
//! CRIU's exit code says that it failed and its log why, in the words of its own source. [`explain`] finds the line that
//! counts and says it so that a person can act upon it.

mod table;

use table::TABLE;

/// What an unknown failure is called.
const UNKNOWN: &str = "CriuFailed";

/// Why a dump or a restore failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriuFailure {
    /// A stable name in CamelCase: one of the project's reasons where there is one that says the same, else a name of
    /// its own kind. `CriuFailed` where the line isn't known.
    pub reason: &'static str,
    /// What happened, in one sentence.
    pub message: String,
    /// What to do about it.
    pub mend: &'static str,
    /// CRIU's own line, without its time; none if the log has no error.
    pub line: Option<String>,
}

/// Explains a `dump.log` or `restore.log` by its first error that means something.
///
/// Without CAP_SYS_RESOURCE every log, also of a success, complains that RLIMIT_NOFILE can't be raised: that is never the
/// reason.
pub fn explain(log: &str) -> CriuFailure {
    let Some(line) = first_error(log) else {
        return CriuFailure {
            reason: UNKNOWN,
            message: "CRIU failed and its log names no error: it was killed, or couldn't write its log"
                .to_owned(),
            mend: "look for the kernel's out-of-memory messages and for room where the log is kept",
            line: None,
        };
    };
    let known = TABLE.iter().find(|known| known.is_meant_by(line));
    CriuFailure {
        reason: known.map_or(UNKNOWN, |known| known.reason),
        message: match known {
            Some(known) => known.message.to_owned(),
            None => format!("CRIU failed: {line}"),
        },
        mend: known.map_or("read CRIU's whole log, which is kept with the migration", |known| known.mend),
        line: Some(line.to_owned()),
    }
}

/// The first line of a CRIU log that tells an error which may be the reason of a failure, without its time.
pub fn first_error(log: &str) -> Option<&str> {
    log.lines().filter_map(|line| line.find("Error (").map(|at| &line[at..])).find(|error| {
        let is_about_its_own_limit = error.contains("rlimit: Can't setup RLIMIT_NOFILE");
        !is_about_its_own_limit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "(00.000020) Version: 4.2.1 (gitid 0)\n\
        (00.044207) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n";

    /// Lines as CRIU 4.2 writes them, seen or formed after its source, and what they mean.
    const LINES: &[(&str, &str)] = &[
        ("criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])", "IoUring"),
        ("criu/pie/parasite.c:588): send_fds failed (-22)", "IoUring"),
        ("criu/proc_parse.c:502): Unknown shit 100600 (/secretmem (deleted))", "UnsupportedMapping"),
        ("criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 1f00", "UnsupportedSocket"),
        ("criu/sk-inet.c:137): inet: Unsupported proto 132 for socket 1f00", "UnsupportedSocket"),
        ("criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 40)", "UnsupportedSocket"),
        (
            "criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.",
            "ExternalUnixSocket",
        ),
        (
            "criu/sk-unix.c:882): unix: Can't dump half of stream unix connection. name: x; peer name: y",
            "ExternalUnixSocket",
        ),
        ("criu/tty.c:1830): Found dangling tty with sid 1 pgid 1 (pty) on peer fd 0.", "TerminalAttached"),
        ("criu/tty.c:410): Found slave peer index 0 without correspond master peer", "TerminalAttached"),
        (
            "criu/files-reg.c:1031): Can't dump ghost file /x of 2097152 size, increase limit",
            "GhostFileTooLarge",
        ),
        (
            "criu/files-ext.c:94): Can't dump file 5 of that type [600] (anon anon_inode:[userfaultfd])",
            "UnsupportedFile",
        ),
        ("criu/files-reg.c:2267): Can't open file data/x: No such file or directory", "MissingFile"),
        ("criu/files-reg.c:2175): File data/x has bad size 3 (expect 5)", "FileSizeMismatch"),
        ("criu/files-reg.c:2294): File data/x has bad mode 0100600 (expect 0100644)", "FileModeMismatch"),
        ("criu/namespaces.c:460): Can't dump nested pid namespace for 12", "NestedNamespace"),
        ("criu/namespaces.c:931): Unable to convert uid or gid", "NestedNamespace"),
        ("criu/net.c:2900): Unable to dump more than one netns if the --emptyns is set", "NestedNamespace"),
        ("criu/sk-inet.c:185): inet: In-flight connection (l) for 1f00", "InFlightConnection"),
        (
            "criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.",
            "EstablishedTcp",
        ),
        ("criu/image.c:600): Can't write: No space left on device", "NoSpace"),
        ("criu/ipc_ns.c:867): Failed to create shm set: File exists", "SysvIpcExists"),
        ("criu/ipc_ns.c:867): Failed to create shm set: No space left on device", "NoSpace"),
        ("criu/seize.c:882): Zombies with threads are not supported", "DeadMainThread"),
        ("criu/cr-restore.c:1230): Can't fork for 6: File exists", "PidTaken"),
        ("criu/cr-dump.c:388): Can't get rlimit 0: Operation not permitted", "NoSysResource"),
        (
            "criu/pie/restorer.c:951): wrong aio: tail=0 head=0 req=1 old_nr=1 new_nr=2 expect=1",
            "AioMismatch",
        ),
        (
            "criu/sk-inet.c:1059): Can't bind inet socket (id 3): Cannot assign requested address",
            "AddressMissing",
        ),
        ("criu/sk-inet.c:1059): Can't bind inet socket (id 3): Address already in use", "AddressInUse"),
        ("criu/cr-dump.c:1808): Timeout reached. Try to interrupt: 0", "CriuTimedOut"),
        ("criu/arch/x86/cpu.c:223): CPU instruction capabilities do not match run time", "CpuMismatch"),
        ("criu/fsnotify.c:200): fsnotify: Can't dump that handle", "FileWatchOnRoot"),
        ("criu/mount.c:381): No parent found for mountpoint 5 (@./x)", "OutsideMountNamespace"),
        ("criu/files-reg.c:1790): Can't lookup mount=-1 for fd=3 path=x", "OutsideFile"),
        ("criu/brand-new.c:1): Something nobody has seen", "CriuFailed"),
    ];

    #[test]
    fn each_line_has_its_reason() {
        for (line, reason) in LINES {
            let log =
                format!("{HEAD}(00.1) Error ({line}\n(00.2) Error (criu/cr-dump.c:2111): Dumping FAILED.\n");
            assert_eq!(explain(&log).reason, *reason, "{line}");
        }
    }

    #[test]
    fn each_reason_of_the_table_is_met() {
        for known in TABLE {
            let log = |line| format!("(00.1) Error ({line}\n");
            assert!(LINES.iter().any(|(line, _)| known.is_meant_by(&log(line))), "{}", known.reason);
        }
    }

    #[test]
    fn the_own_limit_is_no_reason() {
        assert_eq!(first_error(HEAD), None);
        let failure = explain(HEAD);
        assert_eq!((failure.reason, failure.line), (UNKNOWN, None));
    }

    #[test]
    fn an_unknown_line_is_quoted() {
        let failure = explain("(00.1) 12: Error (criu/x.c:1): y: z\n");
        assert_eq!(failure.line.as_deref(), Some("Error (criu/x.c:1): y: z"));
        assert_eq!(failure.message, "CRIU failed: Error (criu/x.c:1): y: z");
    }
}

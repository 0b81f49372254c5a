//! As much of runc's command line as has to be understood. What isn't understood is passed on as it came.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use transship_decision::ContainerId;

/// The commands that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Start,
    Run,
    Restore,
    Other,
}

/// How the runtime's log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// A command line of runc: `[GLOBAL…] VERB [FLAG…] ID`.
#[derive(Debug)]
pub(super) struct CommandLine {
    /// Everything, as it came.
    pub all: Vec<OsString>,
    /// The part before the verb.
    pub globals: Vec<OsString>,
    pub verb: Verb,
    pub root: Option<PathBuf>,
    pub log: Option<PathBuf>,
    pub log_format: LogFormat,
    /// Of the verb's flags, those that `restore` has too.
    pub bundle: PathBuf,
    pub pid_file: Option<OsString>,
    pub console_socket: Option<OsString>,
    pub no_pivot: Option<OsString>,
    id: Option<OsString>,
}

/// Global flags of runc, crun and youki that take a value as the next argument, unless written `--flag=value`.
const GLOBALS_WITH_VALUE: [&str; 7] =
    ["root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"];

/// The same of their `create`, `run`, `start` and `restore`.
const FLAGS_WITH_VALUE: [&str; 14] = [
    "bundle",
    "b",
    "config",
    "f",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "preserve-fds",
    "image-path",
    "work-path",
    "parent-path",
    "manage-cgroups-mode",
    "lsm-profile",
    "lsm-mount-context",
];

impl CommandLine {
    /// Never fails: what makes no sense here makes none to the runtime either, which says so.
    pub fn parse(all: Vec<OsString>) -> Self {
        let mut line = Self {
            all,
            globals: Vec::new(),
            verb: Verb::Other,
            root: None,
            log: None,
            log_format: LogFormat::Text,
            bundle: PathBuf::from("."),
            pid_file: None,
            console_socket: None,
            no_pivot: None,
            id: None,
        };
        let all = line.all.clone();
        let mut words = Words { rest: all.iter() };
        while let Some(word) = words.next(&GLOBALS_WITH_VALUE) {
            match word {
                Word::Flag(name, value) => line.global(&name, value),
                Word::Plain(verb) => {
                    line.verb = verb_of(verb);
                    line.globals = all[..all.len() - words.rest.len() - 1].to_vec();
                    break;
                }
            }
        }
        if line.verb != Verb::Other {
            while let Some(word) = words.next(&FLAGS_WITH_VALUE) {
                match word {
                    Word::Flag(name, value) => line.flag(&name, value),
                    Word::Plain(id) => line.id = Some(id.to_owned()),
                }
            }
        }
        line
    }

    fn global(&mut self, name: &str, value: Option<OsString>) {
        match (name, value) {
            ("root", Some(value)) => self.root = Some(value.into()),
            ("log", Some(value)) => self.log = Some(value.into()),
            ("log-format", Some(value)) if value == "json" => self.log_format = LogFormat::Json,
            _ => {}
        }
    }

    fn flag(&mut self, name: &str, value: Option<OsString>) {
        match (name, value) {
            ("bundle" | "b", Some(value)) => self.bundle = value.into(),
            ("pid-file", value @ Some(_)) => self.pid_file = value,
            ("console-socket", value @ Some(_)) => self.console_socket = value,
            ("no-pivot", None) => self.no_pivot = Some("--no-pivot".into()),
            ("no-pivot", Some(value)) => {
                let mut flag = OsString::from("--no-pivot=");
                flag.push(value);
                self.no_pivot = Some(flag);
            }
            _ => {}
        }
    }

    /// The container's id, if it is one that can be the name of a file.
    pub fn container_id(&self) -> Option<ContainerId> {
        self.id.as_ref()?.to_str()?.parse().ok()
    }
}

fn verb_of(word: &OsStr) -> Verb {
    match word.to_str() {
        Some("create") => Verb::Create,
        Some("start") => Verb::Start,
        Some("run") => Verb::Run,
        Some("restore") => Verb::Restore,
        _ => Verb::Other,
    }
}

enum Word<'a> {
    /// The name without dashes, and the value if it has one.
    Flag(String, Option<OsString>),
    Plain(&'a OsStr),
}

struct Words<'a> {
    rest: std::slice::Iter<'a, OsString>,
}

impl<'a> Words<'a> {
    fn next(&mut self, with_value: &[&str]) -> Option<Word<'a>> {
        let word = self.rest.next()?.as_os_str();
        let bytes = word.as_bytes();
        if !bytes.starts_with(b"-") || bytes == b"-" {
            return Some(Word::Plain(word));
        }
        if bytes == b"--" {
            return self.rest.next().map(|word| Word::Plain(word.as_os_str()));
        }
        // runc's parser takes one dash for two.
        let body = bytes.strip_prefix(b"--").or(bytes.strip_prefix(b"-")).unwrap_or(bytes);
        let (name, value) = match body.iter().position(|b| *b == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]).to_owned())),
            None => (body, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let value = match value {
            None if with_value.contains(&name.as_str()) => self.rest.next().cloned(),
            value => value,
        };
        Some(Word::Flag(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        CommandLine::parse(line.split_whitespace().map(OsString::from).collect())
    }

    /// Command lines as containerd's shim, conmon, podman and people write them.
    #[test]
    fn command_lines_as_they_come() {
        let id = "f3c9a1b2";
        let containerd = "--root /run/containerd/runc/k8s.io --log /run/b/log.json --log-format json";
        for (line, verb, root) in [
            (
                format!("{containerd} create --bundle /run/b --pid-file /run/b/init.pid {id}"),
                Verb::Create,
                "/run/containerd/runc/k8s.io",
            ),
            (
                format!("{containerd} --systemd-cgroup create --bundle /run/b --pid-file /p {id}"),
                Verb::Create,
                "/run/containerd/runc/k8s.io",
            ),
            (format!("{containerd} start {id}"), Verb::Start, "/run/containerd/runc/k8s.io"),
            (
                format!("--root=/run/runc --systemd-cgroup create --bundle /run/b --pid-file /p {id}"),
                Verb::Create,
                "/run/runc",
            ),
            (format!("--rootless auto --root /run/runc --debug start {id}"), Verb::Start, "/run/runc"),
            (
                format!("--cgroup-manager=cgroupfs --root /run/crun run -b /run/b {id}"),
                Verb::Run,
                "/run/crun",
            ),
            (
                format!("-root /run/runc --criu /usr/sbin/criu restore --image-path /i -b /run/b {id}"),
                Verb::Restore,
                "/run/runc",
            ),
        ] {
            let parsed = parse(&line);
            assert_eq!(parsed.verb, verb, "{line}");
            assert_eq!(parsed.root, Some(root.into()), "{line}");
            assert_eq!(parsed.container_id().unwrap().as_str(), id, "{line}");
            if verb != Verb::Start {
                assert_eq!(parsed.bundle, PathBuf::from("/run/b"), "{line}");
            }
            let verb_at = parsed.globals.len();
            assert_eq!(parsed.all[..verb_at], parsed.globals, "{line}");
            assert_eq!(verb_of(&parsed.all[verb_at]), verb, "{line}");
        }
    }

    #[test]
    fn what_restore_needs_of_create() {
        let line = "--log=/l --log-format=json create --console-socket /c --no-pivot --no-new-keyring \
                    --preserve-fds 2 --pidfd-socket /s --pid-file=/p --bundle=/b ID";
        let parsed = parse(line);
        assert_eq!(parsed.pid_file, Some("/p".into()));
        assert_eq!(parsed.console_socket, Some("/c".into()));
        assert_eq!(parsed.no_pivot, Some("--no-pivot".into()));
        assert_eq!(parsed.bundle, PathBuf::from("/b"));
        assert_eq!((parsed.log, parsed.log_format), (Some("/l".into()), LogFormat::Json));
    }

    #[test]
    fn all_else_is_for_the_runtime() {
        for line in [
            "",
            "--version",
            "-v",
            "--root /r state create",
            "--root /r delete --force create",
            "--root",
            "exec --process /p start",
            "features",
            "--root /r kill ID 9",
            "checkpoint --image-path create ID",
        ] {
            assert_eq!(parse(line).verb, Verb::Other, "{line}");
        }
    }

    #[test]
    fn no_id_is_no_id() {
        for line in ["create", "create --bundle", "start ../x", "start --", "create -b /b -- -x/y"] {
            assert_eq!(parse(line).container_id(), None, "{line}");
        }
    }
}

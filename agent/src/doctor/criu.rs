//! CRIU and what it calls.

use std::fs;
use std::path::Path;

use super::commands::{self, CommandError};
use super::{Finding, Status};

/// The oldest whose images and options are known to do.
const OLDEST: (u32, u32) = (4, 0);
const INSTALL: &str = "install CRIU 4.0 or later in containerd's PATH (the package criu)";

/// All checks of CRIU; those that need it are left out where it isn't there.
pub async fn checks() -> Vec<Finding> {
    let version = version().await;
    let here = version.status != Status::Fail;
    let mut findings = vec![version];
    if here {
        findings.push(check().await);
    }
    findings.extend([configuration(Path::new("/etc/criu")), tools(), netfilter()]);
    findings
}

async fn version() -> Finding {
    const NAME: &str = "CRIU";
    match commands::run("criu", &["--version"]).await {
        Ok(output) => judge_version(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => Finding::fail(NAME, error.to_string(), INSTALL),
    }
}

fn judge_version(said: &str) -> Finding {
    const NAME: &str = "CRIU";
    let Some(text) = said.lines().find_map(|line| line.strip_prefix("Version:")).map(str::trim) else {
        return Finding::fail(NAME, "it doesn't say its version", INSTALL);
    };
    let mut numbers = text.split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), minor) if (major, minor.unwrap_or(0)) >= OLDEST => Finding::ok(NAME, text),
        _ => Finding::fail(NAME, format!("{text} is too old"), INSTALL),
    }
}

async fn check() -> Finding {
    const NAME: &str = "criu check";
    match commands::run("criu", &["check"]).await {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            judge_check(&String::from_utf8_lossy(&said), output.status.success())
        }
        Err(error @ CommandError::Hangs { .. }) => {
            Finding::fail(NAME, error.to_string(), "look at /proc/PID/stack of it")
        }
        Err(error) => Finding::fail(NAME, error.to_string(), INSTALL),
    }
}

fn judge_check(said: &str, success: bool) -> Finding {
    const NAME: &str = "criu check";
    if success {
        return Finding::ok(NAME, "the kernel has what CRIU needs");
    }
    let first = said.lines().find(|line| line.starts_with("Error")).unwrap_or("it failed without saying why");
    Finding::fail(
        NAME,
        first,
        "run `criu check` as root; use a kernel of your distribution, with CONFIG_CHECKPOINT_RESTORE",
    )
}

/// What every CRIU of this host reads, whoever calls it.
fn configuration(folder: &Path) -> Finding {
    const NAME: &str = "CRIU's configuration";
    let says_something = |text: String| {
        text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    let found: Vec<_> = ["default.conf", "runc.conf"]
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| fs::read_to_string(path).is_ok_and(says_something))
        .map(|path| path.display().to_string())
        .collect();
    if found.is_empty() {
        return Finding::ok(NAME, "none of this host's own");
    }
    let detail = format!("{} changes every dump and restore of this host", found.join(" and "));
    Finding::warn(NAME, detail, "remove it, unless you know that you need it")
}

/// Programs that CRIU runs: tar and gzip for each tmpfs, ip for network namespaces.
fn tools() -> Finding {
    const NAME: &str = "CRIU's tools";
    let missing: Vec<_> =
        ["tar", "gzip", "ip"].into_iter().filter(|name| commands::find(name).is_none()).collect();
    if missing.is_empty() {
        return Finding::ok(NAME, "tar, gzip, ip");
    }
    let mend = "install the packages tar, gzip and iproute2";
    Finding::fail(NAME, format!("missing: {}", missing.join(", ")), mend)
}

/// A checkpoint by the container runtime itself keeps packets away from the container meanwhile.
fn netfilter() -> Finding {
    const NAME: &str = "netfilter";
    let found: Vec<_> =
        ["nft", "iptables-restore"].into_iter().filter(|name| commands::find(name).is_some()).collect();
    if found.is_empty() {
        return Finding::fail(
            NAME,
            "neither nft nor iptables-restore",
            "install the package nftables or iptables",
        );
    }
    Finding::ok(NAME, found.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("Version: 4.2.1\n", Status::Ok),
            ("Version: 4.0\nGitID: v4.0\n", Status::Ok),
            ("Version: 10.1\n", Status::Ok),
            ("Version: 3.17.1\n", Status::Fail),
            ("Version: unknown\n", Status::Fail),
            ("", Status::Fail),
        ];
        for (said, status) in cases {
            assert_eq!(judge_version(said).status, status, "{said:?}");
        }
    }

    #[test]
    fn a_failed_check_tells_the_first_error() {
        let said = "Warn  (criu/cr-check.c:824): Dirty tracking is OFF. Memory snapshot will not work.\n\
                    Error (criu/cr-check.c:1007): failed to mount autofs: Invalid argument\n\
                    Error (criu/cr-check.c:1): another\n";
        let finding = judge_check(said, false);
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.detail, "Error (criu/cr-check.c:1007): failed to mount autofs: Invalid argument");
        assert_eq!(judge_check("Looks good.\n", true).status, Status::Ok);
    }

    #[test]
    fn a_configuration_that_says_nothing_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(configuration(dir.path()).status, Status::Ok);
        fs::write(dir.path().join("default.conf"), "# ghost-limit 1\n\n").unwrap();
        assert_eq!(configuration(dir.path()).status, Status::Ok);
        fs::write(dir.path().join("runc.conf"), "tcp-close\n").unwrap();
        let finding = configuration(dir.path());
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.detail.contains("runc.conf") && !finding.detail.contains("default.conf"));
    }
}

//! The node's container runtime.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use transship_proto::Fault;

use super::{Finding, Status, wrapper};
use crate::config::Config;
use crate::facts::Handler;
use crate::runtime::Cri;

const PATIENCE: Duration = Duration::from_secs(10);

/// All checks of the container runtime and of what it starts containers with; if it doesn't answer, that is all.
pub async fn checks(config: &Config) -> Vec<Finding> {
    const NAME: &str = "containerd";
    let cri = match Cri::new(&config.cri) {
        Ok(cri) => cri,
        Err(fault) => return vec![silent(NAME, &config.cri, &fault.message)],
    };
    let version = match in_time(cri.version()).await {
        Ok(said) => judge_version(&said),
        Err(why) => return vec![silent(NAME, &config.cri, &why)],
    };
    let handler = match in_time(Handler::find(&cri, "")).await {
        Ok(handler) => handler,
        Err(why) => {
            let mend = "use containerd 2 or later, which tells its configuration";
            return vec![version, Finding::fail("default runtime", why, mend)];
        }
    };
    let mut findings = vec![version, wrapper::in_place(&handler)];
    if handler.wrapped {
        findings.push(wrapper::settings(&handler, config));
    }
    // Broken settings have been told of by then.
    if findings.iter().all(|finding| finding.name != "wrapper" || finding.status == Status::Ok) {
        findings.push(wrapper::runtime(&handler).await);
    }
    findings
}

async fn in_time<T>(call: impl Future<Output = Result<T, Fault>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|fault| fault.message),
        Err(_) => Err(format!("it has not answered for {} s", PATIENCE.as_secs())),
    }
}

fn silent(name: &'static str, socket: &Path, why: &str) -> Finding {
    Finding::fail(
        name,
        format!("no answer at {}: {why}", socket.display()),
        "start containerd, or name its socket with --cri",
    )
}

fn judge_version(said: &str) -> Finding {
    const NAME: &str = "containerd";
    match said.split_once(' ') {
        Some(("containerd", version)) if !version.trim_start_matches('v').starts_with("1.") => {
            Finding::ok(NAME, said)
        }
        Some(("containerd", _)) => {
            Finding::fail(NAME, format!("{said} is too old"), "use containerd 2 or later")
        }
        _ => Finding::fail(NAME, format!("{said} is not supported yet"), "use containerd 2 or later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containerd_from_version_2_will_do() {
        assert_eq!(
            judge_version("containerd 2.1.9+unknown"),
            Finding::ok("containerd", "containerd 2.1.9+unknown")
        );
        assert_eq!(judge_version("containerd v2.4.2").status, Status::Ok);
        for said in ["containerd 1.7.24", "containerd v1.6.0", "cri-o 1.37.0", ""] {
            assert_eq!(judge_version(said).status, Status::Fail, "{said:?}");
        }
    }
}

//! The OCI wrapper, as the node's container runtime calls it.

use transship_decision::WrapperSettings;

use super::{Finding, commands};
use crate::config::Config;
use crate::facts::Handler;

const NAME: &str = "wrapper";

/// New containers are started through the wrapper: the fence on a source, the way in on a target.
pub fn in_place(handler: &Handler) -> Finding {
    let program = handler.program.display();
    if handler.wrapped {
        return Finding::ok("default runtime", program.to_string());
    }
    let mend = "set BinaryName = '/usr/local/bin/transship-runtime' in the options of containerd's default runtime, \
                restart containerd; containers that run already must be restarted once";
    Finding::fail("default runtime", format!("{program}, so that nothing can be moved to or from here"), mend)
}

/// The wrapper's program is there, and its settings are those of the agent.
pub fn settings(handler: &Handler, config: &Config) -> Finding {
    if !commands::is_executable(&handler.program) {
        let mend = "install transship-runtime there; until then no container of this node starts";
        return Finding::fail(NAME, format!("{} is no program", handler.program.display()), mend);
    }
    match WrapperSettings::of_program(&handler.program) {
        Ok(settings) => judge_settings(&settings, config),
        Err(error) => Finding::fail(NAME, error.to_string(), "mend the file, or remove it for the defaults"),
    }
}

fn judge_settings(settings: &WrapperSettings, config: &Config) -> Finding {
    for (key, wrapper, agent) in
        [("state", &settings.state, &config.state), ("run", &settings.run, &config.run)]
    {
        if wrapper != agent {
            let detail =
                format!("its {key} folder is {}, the agent's is {}", wrapper.display(), agent.display());
            return Finding::fail(
                NAME,
                detail,
                format!("set {key:?} in transship-runtime.json beside the wrapper to the agent's --{key}"),
            );
        }
    }
    Finding::ok(NAME, "has the agent's folders")
}

/// What does the work behind the wrapper.
pub async fn runtime(handler: &Handler) -> Finding {
    const NAME: &str = "OCI runtime";
    let program = match handler.runtime() {
        Ok(program) => program,
        Err(fault) => return Finding::fail(NAME, fault.message, "mend the wrapper's settings"),
    };
    match commands::run(&program, &["--version"]).await {
        Ok(output) => judge_runtime(&String::from_utf8_lossy(&output.stdout)),
        Err(error) => {
            Finding::fail(NAME, error.to_string(), "install runc, or name it in the wrapper's settings")
        }
    }
}

fn judge_runtime(said: &str) -> Finding {
    const NAME: &str = "OCI runtime";
    let first = said.lines().next().unwrap_or_default();
    match first.split_once(" version ") {
        Some(("runc", version)) => Finding::ok(NAME, format!("runc {version}")),
        Some((other, version)) => {
            let mend = r#"use runc: {"runtime": "/usr/sbin/runc"} in the wrapper's settings"#;
            Finding::fail(NAME, format!("{other} {version} is not supported yet"), mend)
        }
        None => Finding::fail(NAME, format!("it calls itself {first:?}"), "install runc"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Status;
    use super::*;

    fn config(line: &[&str]) -> Config {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            config: Config,
        }
        Line::try_parse_from(["agent"].iter().chain(line)).unwrap().config
    }

    #[test]
    fn wrapper_and_agent_must_meet() {
        let judged =
            |text: &str, line: &[&str]| judge_settings(&serde_json::from_str(text).unwrap(), &config(line));
        assert_eq!(judged("{}", &[]).status, Status::Ok);
        assert_eq!(
            judged(r#"{"runtime": "/usr/sbin/runc", "state": "/data/t"}"#, &["--state", "/data/t"]).status,
            Status::Ok
        );

        let apart = judged("{}", &["--run", "/run/other"]);
        assert_eq!(apart.status, Status::Fail);
        assert_eq!(apart.detail, "its run folder is /run/transship, the agent's is /run/other");
    }

    #[test]
    fn only_runc_is_runc() {
        assert_eq!(
            judge_runtime("runc version 1.3.6+ds1\nspec: 1.2.1\n"),
            Finding::ok("OCI runtime", "runc 1.3.6+ds1")
        );
        for said in ["crun version 1.28\ncommit: x\n", "youki version: 0.5\n", ""] {
            assert_eq!(judge_runtime(said).status, Status::Fail, "{said:?}");
        }
    }
}

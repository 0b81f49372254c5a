//! `transship doctor` says what a node can do.

use std::fs;

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName};

use crate::scenario::{Scenario, scenarios};

pub fn all() -> Vec<Scenario> {
    scenarios!("host":
        doctor_has_nothing_against_a_node_of_the_lab,
        doctor_refuses_crun,
    )
}

/// Exit code and words.
fn doctor(lab: &Lab) -> Result<(Option<i32>, String)> {
    let output = lab
        .node(NodeName::A)
        .command("transship")?
        .args(["doctor", "--listen", "10.77.0.11:7443"])
        .output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn doctor_has_nothing_against_a_node_of_the_lab(lab: &Lab) -> Result<()> {
    let (code, said) = doctor(lab)?;
    ensure!(code == Some(0), "doctor ended with {code:?}:\n{said}");
    Ok(())
}

fn doctor_refuses_crun(lab: &Lab) -> Result<()> {
    let settings = lab.node(NodeName::A).path("/usr/local/bin/transship-runtime.json")?;
    let before = fs::read(&settings).context("read the wrapper's settings")?;
    fs::write(&settings, r#"{"runtime":"/usr/bin/crun"}"#).context("write the wrapper's settings")?;
    let (code, said) = doctor(lab)?;
    fs::write(&settings, before).context("write the wrapper's settings")?;
    ensure!(code == Some(1), "doctor ended with {code:?}:\n{said}");
    let line = said.lines().find(|line| line.contains("FAIL") && line.contains("crun"));
    ensure!(line.is_some(), "it doesn't refuse crun:\n{said}");
    Ok(())
}

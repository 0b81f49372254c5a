//! The lab that the scenarios of one cgroup version share.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::{Completion, Failed, Trial};
use transship_lab::{CgroupVersion, Lab, LabError, LabGuard, LabOptions, Workload};

use crate::footprint::Footprint;
use crate::node;
use crate::scenario::Scenario;

/// How long what was removed may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A kubelet's work, since the runtime leaves logs to whoever made their folder, and the scenarios' own.
const CLEAR: [&str; 3] = ["sh", "-c", "rm -rf /var/log/pods/* /srv/*"];

/// A lab that comes up for the first scenario that wants it.
pub struct Stage {
    cgroups: CgroupVersion,
    set: Mutex<Option<Set>>,
}

/// A lab, and what it was like before anything had happened in it.
struct Set {
    lab: LabGuard,
    empty: Footprint,
}

/// Why there is no lab.
enum NoLab {
    /// This machine can't have one of that version.
    Impossible(String),
    Failed(anyhow::Error),
}

impl Stage {
    pub fn new(cgroups: CgroupVersion) -> Self {
        Stage { cgroups, set: Mutex::default() }
    }

    /// The scenario as a test of libtest's.
    pub fn trial(self: &Arc<Self>, scenario: Scenario) -> Trial {
        let stage = Arc::clone(self);
        let name = format!("{}::{}", self.cgroups, scenario.name);
        Trial::ignorable_test(name, move || stage.play(&scenario))
    }

    fn play(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let mut shared = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: a scenario that fails or panics leaves its lab to nobody.
        let set = match shared.take().map_or_else(|| self.bring_up(), Ok) {
            Ok(set) => set,
            Err(NoLab::Impossible(why)) => return Ok(Completion::ignored_with(why)),
            Err(NoLab::Failed(error)) => return Err(format!("{error:#}").into()),
        };
        let played = (scenario.play)(&set.lab);
        match played.and_then(|()| set.strike().context("after the scenario")) {
            Ok(()) => {
                *shared = Some(set);
                Ok(Completion::Completed)
            }
            Err(error) => Err(format!("{error:#}\n{}", logs(&set.lab)).into()),
        }
    }

    fn bring_up(&self) -> Result<Set, NoLab> {
        let options = LabOptions::from_env(&format!("tests-{}", self.cgroups));
        let options = options.map(|options| LabOptions { cgroups: Some(self.cgroups), ..options });
        let up = options.and_then(|options| LabGuard::up(&options)).map_err(|error| match error {
            LabError::Machine { .. } => NoLab::Impossible(error.to_string()),
            other => NoLab::Failed(other.into()),
        });
        Set::new(up?).map_err(NoLab::Failed)
    }
}

impl Set {
    /// A node's first Pod leaves a bridge and a cgroup for all Pods to come: that one isn't to be any scenario's.
    fn new(lab: LabGuard) -> Result<Self> {
        for node in lab.nodes() {
            let pod = node.start(&Workload::new("first", "processes").with_arguments(["--n", "0"]))?;
            node.cri()?.remove_pod(&pod.pod_id)?;
            node.run(&CLEAR)?;
        }
        let empty = Footprint::of(&lab)?;
        Ok(Set { lab, empty })
    }

    /// Clears the lab for the next scenario; fails if anything is left that the removal of all Pods doesn't take away.
    fn strike(&self) -> Result<()> {
        for node in self.lab.nodes() {
            node::agent_without_faults(node)?;
            let cri = node.cri()?;
            for pod in cri.pods()? {
                cri.remove_pod(&pod.id)?;
            }
            node.run(&CLEAR)?;
        }
        self.empty.awaited(&self.lab, GONE)
    }
}

/// The end of each agent's log, for a person who looks for the reason.
fn logs(lab: &Lab) -> String {
    let mut text = String::new();
    for node in lab.nodes() {
        let log = node.agent_log().unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(40)..];
        text += &format!("last lines of the agent's log on node {}:\n{}\n", node.name(), tail.join("\n"));
    }
    text
}

//! Two containers of one Pod that hold each other to account: over the Pod's loopback and in its shared memory.

use anyhow::{Context, Result, bail, ensure};
use transship_lab::{Lab, NodeName, Workload, until};

use super::{PATIENCE, ask};
use crate::node;

/// What each container is called, and does. Outside Kubernetes a name may be anything.
const CONTAINERS: [(&str, &[&str]); 2] = [("keeper", &["--role=keeper"]), ("..", &["--role=teller"])];

/// A keeper and a teller in one Pod, wherever it runs.
pub struct Pair<'a> {
    lab: &'a Lab,
    name: String,
    address: String,
}

impl<'a> Pair<'a> {
    /// Starts both and waits until they have begun.
    pub fn start(lab: &'a Lab, on: NodeName, name: &str) -> Result<Self> {
        let pod = node::start_pod(lab, on, &Workload::new(name, "pair"), &CONTAINERS)?;
        Self::started(lab, name, &pod.address)
    }

    /// Two that have been started there; waits until they have begun.
    pub fn started(lab: &'a Lab, name: &str, address: &str) -> Result<Self> {
        let pair = Pair { lab, name: name.to_owned(), address: address.to_owned() };
        pair.reaches(1)?;
        Ok(pair)
    }

    /// The last number that the keeper took.
    pub fn count(&self) -> Result<u64> {
        let answer = ask(self.lab, &self.address, "get")?;
        answer.parse().with_context(|| format!("{} answers {answer:?}, no number", self.name))
    }

    /// Both go on: none has missed a number, or was told one twice, or is of another moment than the other.
    pub fn runs_on(&self) -> Result<()> {
        let count = self.count()?;
        self.reaches(count + 20)?;
        let answer = ask(self.lab, &self.address, "check")?;
        ensure!(answer == "ok", "{} says of itself: {answer}", self.name);
        Ok(())
    }

    /// Both run on that node now and nowhere else, and have gone on from `count` or later.
    pub fn runs_on_at(&mut self, on: NodeName, count: u64) -> Result<()> {
        if node::running(self.lab, on.peer(), &self.name)?.is_some() {
            bail!("{} runs on node {} too", self.name, on.peer());
        }
        self.address = node::must_run(self.lab, on, &self.name)?.address;
        let now = self.count()?;
        ensure!(now >= count, "{} stands at {now}, it was at {count} before", self.name);
        self.runs_on()
    }

    fn reaches(&self, least: u64) -> Result<()> {
        // Until the keeper listens there is no answer to go by.
        let look = || Ok(self.count().ok().filter(|count| *count >= least));
        Ok(until(&format!("a count of {least} by {}", self.name), PATIENCE, look).map(drop)?)
    }
}

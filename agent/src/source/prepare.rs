//! Everything that can be made ready while the workload runs.

use bytes::Bytes;
use transship_dial::Dialled;
use transship_freezer::Cgroup;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{AwaitWaitingRequest, Capture, PrepareRequest, migrate_event::Started};
use transship_proto::{Fault, Reason};
use transship_transfer::Sender;

use super::drive::{Migration, Wish, missing};
use super::plan::{Departure, Leaving};
use super::preflight::{Cleared, preflight, told};
use crate::host::Workspace;
use crate::node::chain;
use crate::plan::{Owner, Plan};
use crate::pods::{self, Move};
use crate::runtime::Inspected;

impl Migration {
    /// Looks whether it can be done, claims the Pod, and writes the plan: what can't be planned is not begun.
    pub(super) async fn preflight(&mut self) -> Result<(), Fault> {
        let wish = self.wish.clone().ok_or_else(|| missing("wish"))?;
        let cleared = self.look(&wish).await?;
        let pod = cleared.pod.uid.parse().map_err(unusable)?;
        self.node.departures.claim(&pod, &self.id)?;
        self.events.started(Started {
            migration: self.id.to_string(),
            container: cleared.pod.name.clone(),
            source_node: self.node.name().to_owned(),
            target_node: cleared.target.peer.name.clone(),
            warnings: cleared.warnings.clone(),
        });
        self.connection = Some(cleared.target.clone());
        self.cleared = Some(cleared);
        self.plan = Some(self.write_plan(&wish)?);
        self.lock = Some(
            self.node
                .state
                .lock(&self.id)
                .map_err(|error| Fault::new(Reason::HostError, error.to_string()))?,
        );
        self.events.planned();
        Ok(())
    }

    async fn look(&self, wish: &Wish) -> Result<Cleared, Fault> {
        let Some(pod) = &wish.pod else {
            return preflight(&self.node, &wish.container, &wish.target, Owner::Agent).await;
        };
        let container = pods::running_container(&self.node.cri, &pod.source).await?;
        let cleared = preflight(&self.node, &container, &wish.target, Owner::Kubelet).await?;
        if cleared.target.peer.name == pod.target_node {
            return Ok(cleared);
        }
        let what = format!(
            "the agent at {} is {}, not {}; has its node another address now?",
            wish.target, cleared.target.peer.name, pod.target_node
        );
        Err(Fault::new(Reason::WrongCertificate, what))
    }

    /// Lets the target make an equal sandbox that waits, connects, and readies the capture.
    pub(super) async fn prepare(&mut self) -> Result<(), Fault> {
        let wish = self.wish.clone().ok_or_else(|| missing("wish"))?;
        let cleared = self.cleared()?;
        let (capacity, workload) = (cleared.capacity, cleared.pod.workload.clone());
        let target = cleared.target.clone();

        self.workspace = Some(Workspace::create(&self.node.run, &self.id, capacity)?);

        let request = PrepareRequest {
            migration: self.id.to_string(),
            workload: Some(workload),
            capacity,
            source_address: self.node.address(),
            pod: wish.pod.as_ref().map(|pod| pod.target.clone()),
        };
        let answer = TargetClient::new(target.channel.clone()).prepare(request).await;
        self.prepared = Some(answer.map_err(|status| told(&wish.target, status))?.into_inner());

        // Before a kubelet is waited for: the target notices by it if this node is lost.
        self.sender = Some(self.open_sender(&wish.target, &target.peer.name).await?);
        if let Some(pod) = &wish.pod {
            self.events.prepared();
            self.await_kubelet(&target, pod).await?;
            self.look_again(&wish).await?;
        }
        if wish.capture != Capture::Cri {
            self.arm_capture()?;
        }
        Ok(())
    }

    /// Waits until the target's kubelet has come to start the Pod.
    async fn await_kubelet(&self, target: &Dialled, pod: &Move) -> Result<(), Fault> {
        let request = AwaitWaitingRequest { migration: self.id.to_string() };
        let mut client = TargetClient::new(target.channel.clone());
        let waiting = client.await_waiting(request);
        let late = |_| {
            let what = format!(
                "the kubelet of {} hasn't come to start Pod {}/{} within {:?}; was it scheduled there, and what do its events say?",
                pod.target_node, pod.target.namespace, pod.target.name, pod.patience
            );
            Fault::new(Reason::PodNotStarted, what)
        };
        let waited = tokio::time::timeout(pod.patience, waiting).await.map_err(late)?;
        let target = &self.plan()?.target;
        waited.map(drop).map_err(|status| told(target, status))
    }

    /// What was looked at before a kubelet was waited for may be long ago.
    async fn look_again(&self, wish: &Wish) -> Result<(), Fault> {
        let now = self.look(wish).await?;
        let (then, now) = (&self.cleared()?.pod.containers, &now.pod.containers);
        let same = then.len() == now.len()
            && then
                .iter()
                .zip(now)
                .all(|(then, now)| (&then.container_id, then.pid) == (&now.container_id, now.pid));
        if same {
            return Ok(());
        }
        let what =
            "containers of the Pod have ended or were started while its target was made ready; try again";
        Err(Fault::new(Reason::WorkloadEnded, what))
    }

    fn write_plan(&self, wish: &Wish) -> Result<Departure, Fault> {
        let cleared = self.cleared()?;
        let pod = &cleared.pod;
        let containers = pod.containers.iter().zip(&cleared.cgroups);
        let departure = Departure {
            migration: self.id.clone(),
            pod_uid: pod.uid.parse().map_err(unusable)?,
            owner: wish.owner(),
            containers: containers.map(|(one, cgroup)| leaving(one, cgroup)).collect::<Result<_, _>>()?,
            sandbox_id: pod.sandbox_id.clone(),
            cgroup_parent: pod
                .workload
                .sandbox
                .as_ref()
                .and_then(|pod| pod.linux.as_ref())
                .map_or_else(String::new, |linux| linux.cgroup_parent.clone()),
            network: format!("/proc/{}/ns/net", pod.sandbox_pid).into(),
            target_node: cleared.target.peer.name.clone(),
            target: wish.target.clone(),
            paused_by_runtime: wish.capture == Capture::Cri,
            budget_ms: u32::try_from(wish.budget.as_millis()).unwrap_or(u32::MAX),
        };
        Plan::Departure(Box::new(departure.clone())).begin(&self.node.state, &self.id)?;
        Ok(departure)
    }

    async fn open_sender(&self, address: &str, name: &str) -> Result<Sender, Fault> {
        let unreachable = |why: String| {
            Fault::new(Reason::TargetUnreachable, format!("the transfer to {address} can't be opened: {why}"))
        };
        let mut found =
            tokio::net::lookup_host(address).await.map_err(|error| unreachable(error.to_string()))?;
        let socket = found.next().ok_or_else(|| unreachable("the name has no address".into()))?;
        let connection =
            self.node.endpoint.connect(socket, name).await.map_err(|error| unreachable(chain(&error)))?;
        let ticket = Bytes::copy_from_slice(self.id.as_str().as_bytes());
        crate::faults::open_sender(&self.node.endpoint, connection, ticket)
            .await
            .map_err(|error| unreachable(chain(&error)))
    }
}

fn leaving(container: &Inspected, cgroup: &Cgroup) -> Result<Leaving, Fault> {
    let gone = |error| {
        Fault::new(
            Reason::ContainerNotRunning,
            format!("process {} can't be looked at: {error}", container.pid),
        )
    };
    let stat = procfs::process::Process::new(container.pid.cast_signed())
        .and_then(|process| process.stat())
        .map_err(gone)?;
    Ok(Leaving {
        container_id: container.container_id.parse().map_err(unusable)?,
        pid: container.pid,
        started: stat.starttime,
        cgroup: cgroup.path().to_owned(),
    })
}

fn unusable(error: transship_decision::InvalidId) -> Fault {
    Fault::new(Reason::RuntimeError, format!("the runtime gave a name that can't be used: {error}"))
}

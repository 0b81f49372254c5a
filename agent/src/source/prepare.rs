//! Everything that can be made ready while the workload runs.

use bytes::Bytes;
use transship_proto::v1::target_client::TargetClient;
use transship_proto::v1::{Capture, PrepareRequest, migrate_event::Started};
use transship_proto::{Fault, Reason};
use transship_transfer::Sender;

use super::drive::{Migration, missing};
use super::plan::Departure;
use super::preflight::{preflight, told};
use crate::host::Workspace;
use crate::node::chain;
use crate::plan::Plan;

impl Migration {
    /// Looks whether it can be done, and claims the container.
    pub(super) async fn preflight(&mut self) -> Result<(), Fault> {
        let wish = self.wish.clone().ok_or_else(|| missing("wish"))?;
        let cleared = preflight(&self.node, &wish.container, &wish.target).await?;
        let container = cleared.container.container_id.parse().map_err(unusable)?;
        self.node.departures.claim(&container, &self.id)?;
        self.events.started(Started {
            migration: self.id.to_string(),
            container: cleared.container.shown_name().to_owned(),
            source_node: self.node.name().to_owned(),
            target_node: cleared.target.peer.name.clone(),
            warnings: cleared.warnings.clone(),
        });
        self.connection = Some(cleared.target.clone());
        self.cleared = Some(cleared);
        Ok(())
    }

    /// Writes the plan, lets the target make an equal sandbox that waits, connects, and readies the capture.
    pub(super) async fn prepare(&mut self) -> Result<(), Fault> {
        let wish = self.wish.clone().ok_or_else(|| missing("wish"))?;
        let cleared = self.cleared()?;
        let (capacity, workload) = (cleared.capacity, cleared.container.workload.clone());
        let target = cleared.target.clone();

        let plan = self.write_plan(&wish)?;
        self.lock = Some(
            self.node
                .state
                .lock(&self.id)
                .map_err(|error| Fault::new(Reason::HostError, error.to_string()))?,
        );
        self.plan = Some(plan);
        self.workspace = Some(Workspace::create(&self.node.run, &self.id, capacity)?);

        let request = PrepareRequest {
            migration: self.id.to_string(),
            workload: Some(workload),
            capacity,
            source_address: self.node.address(),
        };
        let answer = TargetClient::new(target.channel.clone()).prepare(request).await;
        self.prepared = Some(answer.map_err(|status| told(&wish.target, status))?.into_inner());

        self.sender = Some(self.open_sender(&wish.target, &target.peer.name).await?);
        if wish.capture != Capture::Cri {
            self.arm_capture()?;
        }
        Ok(())
    }

    fn write_plan(&self, wish: &super::drive::Wish) -> Result<Departure, Fault> {
        let cleared = self.cleared()?;
        let container = &cleared.container;
        let gone = |error| {
            Fault::new(
                Reason::ContainerNotRunning,
                format!("process {} can't be looked at: {error}", container.pid),
            )
        };
        let stat = procfs::process::Process::new(container.pid.cast_signed())
            .and_then(|process| process.stat())
            .map_err(gone)?;
        let departure = Departure {
            migration: self.id.clone(),
            pod_uid: container.pod_uid.parse().map_err(unusable)?,
            container_id: container.container_id.parse().map_err(unusable)?,
            sandbox_id: container.sandbox_id.clone(),
            cgroup_parent: container
                .workload
                .sandbox
                .as_ref()
                .and_then(|pod| pod.linux.as_ref())
                .map_or_else(String::new, |linux| linux.cgroup_parent.clone()),
            pid: container.pid,
            started: stat.starttime,
            network: format!("/proc/{}/ns/net", container.sandbox_pid).into(),
            cgroup: cleared.cgroup.path().to_owned(),
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

fn unusable(error: transship_decision::InvalidId) -> Fault {
    Fault::new(Reason::RuntimeError, format!("the runtime gave a name that can't be used: {error}"))
}

use std::fmt;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason in a `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "transship.io";

/// Why something was refused or failed. The CamelCase name of a variant is its stable name everywhere: on the command
/// line, in gRPC errors, in conditions and metrics.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::AsRefStr,
    strum::VariantArray,
)]
pub enum Reason {
    // What the call itself got wrong.
    /// The call's arguments can't be right.
    InvalidArgument,
    /// No container of that ID or name runs here.
    ContainerNotFound,
    /// The name or ID prefix fits several containers.
    ContainerAmbiguous,
    /// No Pod of that UID runs here.
    PodNotFound,
    /// No migration of that name is known here.
    MigrationNotFound,
    /// Whoever asks may not.
    Forbidden,
    /// This workload is being migrated already.
    AlreadyMigrating,
    /// A former migration left something that stands in the way.
    LeftoverOf,

    // The other node.
    /// The target's agent can't be reached.
    TargetUnreachable,
    /// The target's certificate isn't one of this authority, or isn't for that address.
    WrongCertificate,
    /// The target's, or one's own, certificate is past its end.
    ExpiredCertificate,
    /// The two agents don't speak the same version.
    VersionMismatch,
    /// The target is the source.
    SameNode,

    // The workload can't be captured.
    /// The container isn't running.
    ContainerNotRunning,
    /// Somebody else has paused the container.
    ContainerPaused,
    /// The container has a terminal.
    TerminalAttached,
    /// The container's standard input is open.
    StdinOpen,
    /// Somebody has an interactive or a running exec in the container.
    ExecSession,
    /// Containers of the Pod share something that would come back as two.
    SharedByContainers,
    /// The sandbox shares a namespace with its host.
    HostNamespace,
    /// The container is privileged.
    Privileged,
    /// The container has a device of the host.
    DeviceInUse,
    /// A folder of the host that is mounted into the container is missing on the target.
    HostPathMissing,
    /// A folder of the host is mounted into a Pod's container.
    HostPathVolume,
    /// The Pod has a volume of a kind that can't follow.
    UnsupportedVolume,
    /// The container's bundle names a CRIU configuration of its own.
    CriuConfigInBundle,
    /// A task has been stopped by a signal, which this cgroup version can't carry.
    StoppedTask,
    /// A task is being traced.
    TracedTask,
    /// io_uring is in use.
    IoUring,
    /// A unix socket is connected to a process outside.
    ExternalUnixSocket,
    /// A TUN or TAP device is open.
    OpenTun,
    /// A socket of a kind that CRIU doesn't know.
    UnsupportedSocket,
    /// A descriptor of a kind that CRIU doesn't know.
    UnsupportedFile,
    /// A namespace inside the container that CRIU can't carry.
    NestedNamespace,
    /// A user namespace.
    UserNamespace,
    /// The main thread is gone while others live.
    DeadMainThread,
    /// The container doesn't run under transship's runtime, so nothing would keep it from being started again.
    NoSourceFence,
    /// This node has no way to capture.
    NoCapturePath,

    // The target can't restore it.
    /// The target has no way to restore.
    NoRestorePath,
    /// The nodes' processors differ in what the workload may use.
    CpuMismatch,
    /// The nodes' processor architectures differ.
    ArchMismatch,
    /// The target's CRIU is older than the source's.
    CriuMismatch,
    /// The nodes' OCI runtimes differ.
    RuntimeMismatch,
    /// The nodes' cgroup versions differ.
    CgroupMismatch,
    /// The target doesn't have the image and can't get it.
    ImageUnavailable,
    /// The target's memory wouldn't hold the state.
    InsufficientMemory,
    /// The images ask for more than the target's bundle grants.
    GrantExceeded,

    // While it went.
    /// The target's kubelet didn't come to start the Pod in time.
    PodNotStarted,
    /// The freezer didn't stop every task in time.
    FreezeTimedOut,
    /// The workload stood still as long as it may; it runs on.
    FreezeBudgetExceeded,
    /// CRIU couldn't dump; the log says more.
    CaptureFailed,
    /// CRIU or the runtime died while it dumped.
    CaptureDied,
    /// The workload's processes ended while they were to be captured.
    WorkloadEnded,
    /// The connection to the target was lost.
    ConnectionLost,
    /// What arrived isn't what was sent.
    ContentCorrupt,
    /// The target's room for the state is full.
    TargetFull,
    /// The restore failed; CRIU's log says more.
    RestoreFailed,
    /// The target's agent died or forgot the migration.
    TargetLost,
    /// The copies couldn't be shown to be still.
    FenceBroken,
    /// Somebody asked for it to stop.
    Cancelled,
    /// The agent was restarted on the way.
    AgentRestarted,
    /// The record that was carried isn't signed by the migration's source.
    RecordNotTrusted,
    /// The runtime's own answer to a call.
    RuntimeError,
    /// A file, mount or process operation of the agent failed.
    HostError,
}

impl Reason {
    /// The gRPC code that goes with this reason.
    pub fn code(self) -> Code {
        match self {
            Self::InvalidArgument | Self::ContainerAmbiguous => Code::InvalidArgument,
            Self::ContainerNotFound | Self::PodNotFound | Self::MigrationNotFound => Code::NotFound,
            Self::AlreadyMigrating => Code::AlreadyExists,
            Self::WrongCertificate | Self::ExpiredCertificate => Code::Unauthenticated,
            Self::RecordNotTrusted | Self::Forbidden => Code::PermissionDenied,
            Self::TargetUnreachable | Self::TargetLost | Self::ConnectionLost => Code::Unavailable,
            Self::Cancelled => Code::Cancelled,
            Self::FreezeTimedOut | Self::FreezeBudgetExceeded | Self::PodNotStarted => Code::DeadlineExceeded,
            Self::InsufficientMemory | Self::TargetFull => Code::ResourceExhausted,
            Self::ContentCorrupt => Code::DataLoss,
            Self::RuntimeError | Self::HostError => Code::Internal,
            _ => Code::FailedPrecondition,
        }
    }
}

/// A reason with what happened, to what, and what to do about it, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The stable reason.
    pub reason: Reason,
    /// One or two sentences for a person.
    pub message: String,
}

impl Fault {
    /// A fault of that reason; `message` says what happened, to what, and what to do.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let details = ErrorDetails::with_error_info(fault.reason.as_ref(), DOMAIN, []);
        Self::with_error_details(fault.reason.code(), fault.message, details)
    }
}

impl From<Status> for Fault {
    /// The fault that a peer of ours sent, or what gRPC itself found.
    fn from(status: Status) -> Self {
        let told = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let reason = told.and_then(|info| info.reason.parse().ok()).unwrap_or(match status.code() {
            Code::Unavailable => Reason::TargetUnreachable,
            Code::Unimplemented => Reason::VersionMismatch,
            _ => Reason::RuntimeError,
        });
        Self::new(reason, status.message())
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn every_reason_survives_the_wire() {
        for &reason in Reason::VARIANTS {
            let fault = Fault::new(reason, "what happened");
            assert_eq!(Fault::from(Status::from(fault.clone())), fault);
        }
    }

    #[test]
    fn a_foreign_status_keeps_its_message() {
        let fault = Fault::from(Status::unavailable("connection refused"));
        assert_eq!(fault, Fault::new(Reason::TargetUnreachable, "connection refused"));
    }
}

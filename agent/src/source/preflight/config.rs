//! What a container's own configuration forbids.

use transship_proto::cri::{ContainerConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use transship_proto::{Fault, Reason};

/// Every reason in the sandbox's and the container's configuration not to move it.
pub fn refusals(sandbox: &PodSandboxConfig, container: &ContainerConfig) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut refuse = |reason, message: String| found.push(Fault::new(reason, message));
    let name = container.metadata.as_ref().map(|data| data.name.as_str()).unwrap_or_default();
    if container.tty {
        let what = format!("{name} has a terminal, which can't follow to another node; run it without a tty");
        refuse(Reason::TerminalAttached, what);
    }
    if container.stdin {
        let what = format!("the standard input of {name} is open and can't follow; run it without stdin");
        refuse(Reason::StdinOpen, what);
    }
    for device in &container.devices {
        let what = format!("{name} has the host's device {}, which the other node's isn't", device.host_path);
        refuse(Reason::DeviceInUse, what);
    }
    for device in &container.cdi_devices {
        refuse(
            Reason::DeviceInUse,
            format!("{name} has the device {}, which the other node's isn't", device.name),
        );
    }
    let linux = container.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if linux.is_some_and(|context| context.privileged) {
        refuse(Reason::Privileged, format!("{name} is privileged and may hold anything of this host"));
    }
    let of_pod = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = [
        linux.and_then(|context| context.namespace_options.as_ref()),
        of_pod.and_then(|context| context.namespace_options.as_ref()),
    ];
    for (namespace, why) in shared_with_host(options.into_iter().flatten()) {
        refuse(Reason::HostNamespace, format!("{name} shares its host's {namespace} namespace: {why}"));
    }
    found
}

fn shared_with_host<'a>(
    options: impl Iterator<Item = &'a NamespaceOption>,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = options
        .flat_map(|options| {
            [
                (options.network(), ("network", "its address can't move")),
                (options.pid(), ("PID", "its process IDs are taken elsewhere")),
                (options.ipc(), ("IPC", "its shared memory is the host's")),
            ]
        })
        .filter(|(mode, _)| *mode == NamespaceMode::Node)
        .map(|(_, said)| said)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use transship_proto::cri::{Device, LinuxPodSandboxConfig, LinuxSandboxSecurityContext};

    #[test]
    fn a_plain_container_may_go() {
        assert!(refusals(&PodSandboxConfig::default(), &ContainerConfig::default()).is_empty());
    }

    #[test]
    fn everything_that_binds_it_to_its_host_is_said_at_once() {
        let container = ContainerConfig {
            tty: true,
            stdin: true,
            devices: vec![Device::default()],
            ..ContainerConfig::default()
        };
        let options = NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() };
        let context = LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..LinuxSandboxSecurityContext::default()
        };
        let linux =
            LinuxPodSandboxConfig { security_context: Some(context), ..LinuxPodSandboxConfig::default() };
        let sandbox = PodSandboxConfig { linux: Some(linux), ..PodSandboxConfig::default() };
        let reasons: Vec<Reason> = refusals(&sandbox, &container).iter().map(|fault| fault.reason).collect();
        assert_eq!(
            reasons,
            [Reason::TerminalAttached, Reason::StdinOpen, Reason::DeviceInUse, Reason::HostNamespace]
        );
    }
}

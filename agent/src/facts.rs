//! What this node is, and whether another can restore what it dumps.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::{CpuInfo, Current};
use serde_json::Value;
use tokio::process::Command;
use transship_decision::WrapperSettings;
use transship_proto::v1::NodeFacts;
use transship_proto::{Fault, Reason};

use crate::host::failed;
use crate::runtime::{Cri, OciRuntime};

/// The name of the OCI wrapper's program.
pub const WRAPPER: &str = "transship-runtime";

/// How the node's runtime starts containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// The program that containerd calls.
    pub program: PathBuf,
    /// Whether that is transship's wrapper.
    pub wrapped: bool,
}

impl Handler {
    /// The handler of that name (empty: the default one) in the configuration that containerd tells of itself.
    pub async fn find(cri: &Cri, name: &str) -> Result<Self, Fault> {
        let config = cri.config().await?;
        Ok(Self::in_config(&config, name))
    }

    fn in_config(config: &Value, name: &str) -> Self {
        let containerd = config.get("containerd");
        let default = containerd
            .and_then(|part| part.get("defaultRuntimeName"))
            .and_then(Value::as_str)
            .unwrap_or("runc");
        let name = if name.is_empty() { default } else { name };
        let options = containerd.and_then(|part| part.get("runtimes")?.get(name)?.get("options"));
        let program = options.and_then(|options| options.get("BinaryName")).and_then(Value::as_str);
        Self::of_program(program.filter(|text| !text.is_empty()).unwrap_or("runc").as_ref())
    }

    /// A handler by its program.
    pub fn of_program(program: &Path) -> Self {
        Self { program: program.into(), wrapped: program.file_name().is_some_and(|name| name == WRAPPER) }
    }

    /// The OCI runtime behind it.
    pub fn runtime(&self) -> Result<PathBuf, Fault> {
        if !self.wrapped {
            return Ok(self.program.clone());
        }
        let settings = WrapperSettings::of_program(&self.program);
        settings
            .map(|settings| settings.runtime)
            .map_err(|error| Fault::new(Reason::HostError, error.to_string()))
    }
}

/// Looks at this node. `handler` is the runtime handler of the workload in question.
pub async fn gather(node: &str, cri: &Cri, handler: &Handler) -> Result<NodeFacts, Fault> {
    let oci = OciRuntime { program: handler.runtime()?, root: PathBuf::new() };
    let cpus =
        CpuInfo::current().map_err(|error| failed("reading /proc/cpuinfo")(std::io::Error::other(error)))?;
    let mut flags: Vec<String> = cpus.flags(0).unwrap_or_default().into_iter().map(str::to_owned).collect();
    flags.sort_unstable();
    Ok(NodeFacts {
        node: node.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        criu_version: criu_version().await?,
        runtime: oci.version().await?,
        runtime_version: cri.version().await?,
        cgroup_version: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 },
        cpu_flags: flags,
        possible_cpus: possible_cpus()?,
    })
}

async fn criu_version() -> Result<String, Fault> {
    let missing = |why: String| {
        Fault::new(Reason::NoCapturePath, format!("CRIU can't be run ({why}); install the package criu"))
    };
    let output = Command::new("criu")
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| missing(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| missing("it doesn't say its version".into()))
}

/// CPUs that this kernel could ever have: an AIO ring's size depends on it.
fn possible_cpus() -> Result<u64, Fault> {
    let file = "/sys/devices/system/cpu/possible";
    let text = fs::read_to_string(file).map_err(failed(format_args!("reading {file}")))?;
    let last = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<u64>().ok());
    Ok(last.map_or(1, |last| last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handler_is_read_from_containerd_s_own_configuration() {
        let config = serde_json::json!({"containerd": {"defaultRuntimeName": "runc", "runtimes": {
            "runc": {"options": {"BinaryName": "/usr/local/bin/transship-runtime"}}, "plain": {"options": {}}}}});
        let wrapped = Handler::in_config(&config, "");
        assert!(wrapped.wrapped && wrapped.program == Path::new("/usr/local/bin/transship-runtime"));
        assert_eq!(Handler::in_config(&config, "plain"), Handler { program: "runc".into(), wrapped: false });
    }
}

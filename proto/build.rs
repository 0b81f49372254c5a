//! Compiles the `.proto` files in pure Rust, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=cri");
    println!("cargo:rerun-if-changed=containerd");
    println!("cargo:rerun-if-changed=transship");
    // First ours, which also writes a useless `runtime.v1`; the second pass replaces that.
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .extern_path(".runtime.v1", "crate::cri")
        .compile_fds(protox::compile(["agent.proto"], ["cri", "transship"])?)?;
    // containerd tells a container's configuration as JSON of its own Go structs: their names, all optional.
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .message_attribute(".runtime.v1", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".runtime.v1", "#[serde(default, deny_unknown_fields)]")
        .field_attribute("runtime.v1.Mount.uidMappings", "#[serde(rename = \"uidMappings\")]")
        .field_attribute("runtime.v1.Mount.gidMappings", "#[serde(rename = \"gidMappings\")]")
        .field_attribute("runtime.v1.ContainerConfig.CDI_devices", "#[serde(rename = \"CDI_devices\")]")
        .compile_fds(protox::compile(["runtime.proto"], ["cri"])?)?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_fds(protox::compile(["tasks.proto"], ["containerd"])?)?;
    Ok(())
}

//! containerd as each node runs it: at its standard paths, with a network of its own for the Pods.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{At, Result};
use crate::image::Image;
use crate::node::Node;
use crate::{command, wait};

/// Its socket, inside the node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Writes its configuration. `pause` is the image of every Pod's sandbox, `runtime` the OCI runtime that it calls.
pub(crate) fn configure(node: &Node, pause: &str, runtime: &str, mtu: u32) -> Result<()> {
    // Lowering oom_score_adj takes CAP_SYS_RESOURCE, which a container's or a VM's root may lack. NRI's socket would
    // be one more thing to wait for.
    let config = format!(
        "version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni']
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    SystemdCgroup = false
    BinaryName = '{runtime}'
"
    );
    let network = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": false,
            "mtu": mtu,
            "ipam": {
                "type": "host-local",
                // On the tmpfs: a power cut frees all addresses.
                "dataDir": "/run/cni",
                "ranges": [[{ "subnet": node.name().pod_network() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    node.write("/etc/containerd/config.toml", config)?;
    node.write("/etc/cni/net.d/10-pods.conflist", network.to_string())
}

/// Starts it and returns when it answers.
pub(crate) fn start(node: &Node) -> Result<()> {
    node.start_daemon("containerd", &["containerd"])?;
    let socket = node.path(SOCKET)?;
    wait::until(&format!("containerd on node {}", node.name()), Duration::from_secs(20), || {
        Ok(UnixStream::connect(&socket).ok())
    })
    .map(drop)
    .map_err(|error| node.with_log(error, "containerd"))
}

/// Sees that the node has an image under that name.
pub(crate) fn ensure_image(node: &Node, image: &Image) -> Result<()> {
    if has_image(node, &image.reference)? { Ok(()) } else { import(node, image) }
}

/// Loads an image, whatever the node has under its name.
pub(crate) fn import(node: &Node, image: &Image) -> Result<()> {
    let file = fs::File::open(&image.archive).at("open", &image.archive)?;
    let mut import = node.command("ctr")?;
    import.args(["--namespace", "k8s.io", "images", "import", "--index-name", &image.reference, "-"]);
    command::output_with_stdin(&mut import, file).map(drop)
}

/// Whether the node has an image of that name.
fn has_image(node: &Node, reference: &str) -> Result<bool> {
    let names = node.run(&["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"])?;
    Ok(names.lines().any(|name| name == reference))
}

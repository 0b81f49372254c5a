# Copies a running container's bundle, with a root file system of its own on the same layers.
# Arguments: the container's ID, the folder to make.
set -eu
from=/run/containerd/io.containerd.runtime.v2.task/k8s.io/$1 to=$2

# An overlay can't have another one as its upper folder: that of a node's root is one.
mkdir -p "$to"
mount -t tmpfs tmpfs "$to"
mkdir "$to/rootfs" "$to/upper" "$to/work"
cp "$from/config.json" "$to"
lower=$(findmnt --noheadings --output FS-OPTIONS "$from/rootfs" | tr , '\n' | sed -n 's/^lowerdir=//p')
mount -t overlay -o "lowerdir=$lower,upperdir=$to/upper,workdir=$to/work" overlay "$to/rootfs"
cp -a "$from/rootfs/." "$to/rootfs"

# The first steps of a machine, in namespaces of its own. Prints `ready PID`, the PID as the host sees it.
# From the environment: ROOT (the shared Debian), DISK (this machine's folder), NAME, CGROUPS (TYPE:OPTIONS:FOLDER each),
# KUBERNETES (the program of a cluster's machines, else empty).
set -eu

# /proc is still the host's here, so this is the host's number.
read -r pid rest </proc/self/stat

# The overlay keeps /etc and the like per machine. containerd's snapshots need a file system that isn't one, and
# transship's records and Pods' volumes should lie on what a real node has there, a plain disk.
mkdir -p "$DISK/upper" "$DISK/work" "$DISK/root"
mount -t overlay -o "lowerdir=$ROOT,upperdir=$DISK/upper,workdir=$DISK/work" overlay "$DISK/root"
cd "$DISK/root"
for name in containerd transship kubelet; do
    mkdir -p "$DISK/$name" "var/lib/$name"
    mount --bind "$DISK/$name" "var/lib/$name"
done

# One file for all machines, so that it is in memory once. Each of its programs goes by its own name.
if [ "$KUBERNETES" ]; then
    touch usr/local/bin/kubernetes
    mount --bind "$KUBERNETES" usr/local/bin/kubernetes
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        ln -sf kubernetes "usr/local/bin/$name"
    done
fi

mount -t proc proc proc
mount -t sysfs sysfs sys
mount --bind /dev dev
mkdir -p dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

# The cgroup namespace makes each of these start at the machine's own cgroup.
case "$CGROUPS" in cgroup:*) mount -t tmpfs -o mode=0755 cgroup sys/fs/cgroup ;; esac
for mount in $CGROUPS; do
    type=${mount%%:*} rest=${mount#*:}
    folder=sys/fs/cgroup/${rest#*:}
    mkdir -p "$folder"
    mount -t "$type" -o "${rest%%:*}" cgroup "$folder"
done

echo "$NAME" >/proc/sys/kernel/hostname
echo 1 >/proc/sys/net/ipv4/ip_forward

# CRIU wants to see where every mount hangs: the root must be the root of the mount namespace, not a chroot.
pivot_root . .
umount -l .
mount --make-rshared /
ip link set lo up

mkdir -p /run/lock
echo "ready $pid"
# An init that reaps. Everything else is started from outside; its death ends all of it, like a power cut.
exec tini -s -- sleep infinity </dev/null >/dev/null 2>&1

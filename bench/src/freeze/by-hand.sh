# Freezes a container, dumps it into a tmpfs and restores it from there on the same node, into another sandbox, with
# the flags that transship gives. Nothing is sent, verified, checked or decided. Leaves everything as it was.
# Arguments: the container's ID, a copy of another one's bundle with a root file system in it, and how CRIU keeps packets
# away meanwhile (iptables, as it does when it isn't told, or skip).
# Prints what the pause, the checkpoint and the restore took, in microseconds.
set -eu
id=$1 bundle=$2 lock=$3
source=/run/containerd/runc/k8s.io copies=/run/by-hand/runc work=/run/by-hand/work

mkdir -p "$work"
mount -t tmpfs tmpfs "$work"
mkdir "$work/images" "$work/dump" "$work/restore"
printf '%s\n' tcp-close "network-lock $lock" 'ghost-limit 1073741824' >"$work/dump.conf"
printf 'tcp-close\n' >"$work/restore.conf"

micros() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
begun=$(micros)
runc --root "$source" pause "$id"
paused=$(micros)
CRIU_CONFIG_FILE=$work/dump.conf runc --root "$source" checkpoint --leave-running --file-locks --tcp-skip-in-flight \
    --image-path "$work/images" --work-path "$work/dump" "$id" >/dev/null
dumped=$(micros)
# The restored process takes over pipes, as it had them.
CRIU_CONFIG_FILE=$work/restore.conf runc --root "$copies" restore --detach --file-locks --bundle "$bundle" \
    --image-path "$work/images" --work-path "$work/restore" copy </dev/null > >(exec cat >/dev/null) 2> >(exec cat >&2)
restored=$(micros)

runc --root "$copies" delete --force copy
runc --root "$source" resume "$id"
umount "$work"
echo $((paused - begun)) $((dumped - paused)) $((restored - dumped))

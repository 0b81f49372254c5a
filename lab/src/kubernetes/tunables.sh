# Shows the kubelet the kernel settings that it wants (NAME=VALUE each), so that it doesn't change them: they aren't
# those of this machine but of the whole host.
set -eu
for setting; do
    file=/proc/sys/${setting%%=*} value=${setting#*=}
    [ "$(cat "$file")" != "$value" ] || continue
    wanted=/run/tunables/${setting%%=*}
    mkdir -p "${wanted%/*}"
    echo "$value" >"$wanted"
    mount --bind "$wanted" "$file"
done

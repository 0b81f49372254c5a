#!/bin/sh
# runc for nodes whose cgroup hierarchy has no controllers: takes the limits out of a bundle before it is used.
for argument; do
    case $previous in --bundle | -b) bundle=$argument ;; esac
    case $argument in create | restore) makes=yes ;; esac
    previous=$argument
done
if [ "$makes" ]; then
    config=${bundle:-.}/config.json
    jq 'del(.linux.resources)' "$config" >"$config.fresh" && mv "$config.fresh" "$config" || exit 1
fi
exec /usr/sbin/runc "$@"

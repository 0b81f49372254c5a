#!/bin/sh
# Stands in for runc: writes down how it was called, beside the name it was called by, and ends with 42.
here=${0%/*}
env >"$here/env"
ls -l /proc/self/fd >"$here/fds"
printf '%s\n' "$0" "$@" >"$here/called"
exit 42

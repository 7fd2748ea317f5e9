#!/bin/bash
# Runs what `rehearse.py` has made, as an engine would: the user of the image, a root that nobody can write, no rights.
#
#     deploy/container/try.sh IMAGE RUN
#
# IMAGE: the directory of image.json. RUN: the directory of a run that is to be there as /run/convergd, with run.yaml and what it
# names; it must belong to user 65532. Asks for the health of the run meanwhile, and ends with the code of convergd.
set -euo pipefail

image=$(realpath "$1") run=$(realpath "$2")
root=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["root"])' "$image/image.json")

contained() {
    setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --bounding-set=-all \
        bwrap --ro-bind "$root" / --proc /proc --dev /dev --tmpfs /tmp --bind "$run" /run/convergd \
        --unshare-user --unshare-pid --unshare-ipc --cap-drop ALL --die-with-parent --chdir /run/convergd \
        --clearenv --setenv PATH /usr/local/bin:/usr/bin:/bin --setenv LIBTORCH /opt/libtorch/torch \
        --setenv OMP_WAIT_POLICY PASSIVE "$@"
}

# Each of these fails where it is not so.
# shellcheck disable=SC2016 # It is the other shell that reads them.
contained /bin/sh -ec 'id; test "$(id -u)" = 65532; if touch /written 2>/dev/null; then exit 1; fi
    grep -E "^CapEff:[[:space:]]*0+$" /proc/self/status; grep -E "^NoNewPrivs:[[:space:]]*1$" /proc/self/status'
contained convergd run -c run.yaml &
sidecar=$!
health=
while kill -0 "$sidecar" 2>/dev/null; do
    [ -n "$health" ] || { contained convergd-healthcheck 2>/dev/null && health=yes && echo healthy; } || true
    sleep 1
done
[ -n "$health" ] || { echo 'it was never healthy' >&2; exit 1; }
if contained convergd-healthcheck 2>/dev/null; then
    echo 'it is healthy after its end' >&2
    exit 1
fi
wait "$sidecar"

#!/usr/bin/env bash
# The way of a set of images: Debian packages -> OCI layout -> medium -> containerd -> running containers. Called by `make demo`.
# Everything is below target/demo; the containerd is one of its own, unpacked in target/tools, and stopped at the end.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
tools=${PANNIER_TOOLS:-$root/target/tools}
demo=$root/target/demo
version=2.1 # of containerd; 1.6 and 1.7 are there as well
pannier=$root/target/release/pannier
node=''

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
# Shows a command as one would type it, then runs it.
show() {
    printf '\033[2m$ %s\033[0m\n' "${*//"$root/"/}"
    "$@"
}

ctr() { "$tools/containerd-$version/usr/bin/ctr" --address "$demo/node/containerd.sock" --namespace k8s.io "$@"; }

# A containerd of our own: root, state and socket below target/demo, in a mount namespace of its own.
start_node() {
    local bin=$tools/containerd-$version/usr/bin
    mkdir -p "$demo/node"
    cat >"$demo/node/config.toml" <<CONF
version = 3
root = '$demo/node/root'
state = '$demo/node/state'
imports = []
disabled_plugins = ['io.containerd.nri.v1.nri']
[grpc]
  address = '$demo/node/containerd.sock'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.k8s.io/pause:3.10'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = '$demo/node/cni'
  bin_dirs = ['$demo/node/cni']
[plugins.'io.containerd.internal.v1.opt']
  path = '$demo/node/opt'
CONF
    # crun and containers want no hybrid cgroup2 mount (seen on machines with cgroup v1).
    # shellcheck disable=SC2016 # $0 is the inner shell's
    PATH=$bin:$PATH unshare --mount sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec containerd --config "$0"' \
        "$demo/node/config.toml" >"$demo/node/log" 2>&1 &
    node=$!
    trap stop_node EXIT
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        ctr version >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "demo: containerd did not start, see target/demo/node/log" >&2
    return 1
}

stop_node() {
    if [[ -n $node ]]; then
        kill "$node" 2>/dev/null || true
        wait "$node" || true
        node=''
    fi
}

# The node's half of the demo.
import_and_run() {
    if [[ $(id -u) != 0 ]]; then
        echo "demo: not root: the import into a containerd is left out" >&2
        return
    fi
    step "A node: containerd $version, empty"
    start_node
    ctr images list -q

    step "From the medium into containerd"
    show "$pannier" import "$demo/medium" --address "$demo/node/containerd.sock"
    show "$pannier" images --address "$demo/node/containerd.sock"

    step "What came runs"
    show ctr run --rm --net-host --runc-binary "$root/tests/setup/oci-runtime.sh" ghcr.io/canonical/zones:2024 zones \
        /usr/local/bin/podmain carried, unpacked, running </dev/null

    step "Again: nothing is left to do"
    show "$pannier" import "$demo/medium" --address "$demo/node/containerd.sock"
}

rm -rf "$demo"
mkdir -p "$demo"

step "Build"
show cargo build --locked --release
show fixtures/corpus/build.sh target/corpus/small --small

step "The connected side: images to a medium"
show "$pannier" export --from "oci:target/corpus/small" --all --to "$demo/medium"
show du -sh target/corpus/small "$demo/medium"

step "Again: nothing is left to do"
show "$pannier" export --from "oci:target/corpus/small" --all --to "$demo/medium"

step "What the medium holds, and that it is whole"
show "$pannier" list "$demo/medium"
show "$pannier" verify --deep "$demo/medium"

import_and_run
step "Done: target/demo/medium is a medium to look at"

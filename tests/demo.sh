#!/usr/bin/env bash
# The way of a set of images: Debian packages -> OCI layout -> medium -> containerd -> running containers. Called by `make demo`.
# Everything is below target/demo; the containerd is one of its own, unpacked in target/tools, and stopped at the end.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
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

stop_node() { [[ -z $node ]] || "$node" stop "$demo/node"; }

# The node's half of the demo.
import_and_run() {
    if [[ $(id -u) != 0 ]]; then
        echo "demo: not root: the import into a containerd is left out" >&2
        return
    fi
    step "A node: containerd $version, empty, without a network"
    node=$root/target/release/examples/node
    trap stop_node EXIT
    local socket
    socket=$("$node" start "$demo/node" "$version")
    export CONTAINERD_ADDRESS=$socket
    show "$pannier" images

    step "From the medium into containerd"
    show "$pannier" import "$demo/medium"
    show "$pannier" images

    step "What came runs: pods, started through CRI"
    show "$node" pod "$demo/node" ghcr.io/canonical/zones:2024 /usr/local/bin/podmain carried, unpacked, running
    show "$node" pod "$demo/node" docker.io/library/busybox:1.35 /bin/busybox uname -a

    step "Again: nothing is left to do"
    show "$pannier" import "$demo/medium"
}

rm -rf "$demo"
mkdir -p "$demo"

step "Build"
show cargo build --locked --release --bin pannier --example node
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

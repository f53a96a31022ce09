#!/usr/bin/env bash
# Runs the program for arm64 under qemu, and compares what it says and writes with what this machine's program does.
# Usage: tests/arm64.sh PROGRAM-FOR-ARM64 PROGRAM    (`make test-arm64`)
#
# Import is tried against a containerd of this machine, as root and where target/tools has one: its socket does not care.
set -euo pipefail
trap 'echo "arm64: FAILED at line $LINENO" >&2' ERR

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath "$1") own=$(realpath "$2")
scratch=$(mktemp -d)
node=''
cleanup() {
    [[ -z $node ]] || "$node" stop "$scratch/node" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap cleanup EXIT
export PANNIER_CONFIG=/dev/null
cd "$root/fixtures"

arm() { qemu-aarch64-static "$program" "$@"; }
say() { printf 'arm64: %s\n' "$*"; }
# The report; the level is what the system's memory was like at the moment.
findings() { grep '"findings":' | sed -E 's/"level":"[^"]*",("limit":"[^"]*",)?//'; }
same() { # WHAT A B
    cmp "$2" "$3" && say "$1: the same"
}

# 16 and 64 KiB pages: the kernel maps what is aligned to them, and nothing else.
read -r align < <(readelf --wide --program-headers "$program" | awk '$1 == "LOAD" { print $NF }' | sort -u)
((align >= 0x10000)) || { say "segments are aligned to $align: no kernel with pages of 64 KiB runs it"; exit 1; }
! readelf --wide --program-headers "$program" | grep -q INTERP || { say "it is not static"; exit 1; }

[[ $(arm --version) == $("$own" --version) ]]
for medium in medium-v1 vectors/*/*/; do
    name=${medium%/} name=${name##*/}
    # But for where it lies, with the space that is free there at the moment.
    arm list --json "$medium" | sed 's/"place":{[^}]*},*//' >"$scratch/list.arm"
    "$own" list --json "$medium" | sed 's/"place":{[^}]*},*//' >"$scratch/list.own"
    same "list $name" "$scratch/list.arm" "$scratch/list.own"
    arm verify --deep --json "$medium" 2>/dev/null | findings >"$scratch/verify.arm"
    "$own" verify --deep --json "$medium" 2>/dev/null | findings >"$scratch/verify.own"
    same "verify $name" "$scratch/verify.arm" "$scratch/verify.own"
done

# The same set gives the same blobs, deltas and parity on any machine.
ssh-keygen -q -t ed25519 -N '' -f "$scratch/key"
for who in arm own; do
    run=("$own")
    [[ $who == own ]] || run=(arm)
    "${run[@]}" --quiet export --from oci:layout-edition-1 --all --platform linux/amd64 --recovery 20% --sign-key "$scratch/key" --to "$scratch/$who"
    "${run[@]}" --quiet export --from oci:layout-all-encodings docker.io/library/app:1 --as registry.local/all:1 --platform linux/amd64 --to "$scratch/$who"
    "${run[@]}" --quiet export --from oci:layout-edition-2 --all --platform linux/amd64 --have medium:vectors/0.1.0/plain --to "$scratch/$who-deltas"
done
for part in blobs .pannier/recovery; do
    diff -r --exclude='*.record.*' "$scratch/arm/$part" "$scratch/own/$part"
    say "$part: the same"
done
diff -r "$scratch/arm-deltas/.pannier/deltas" "$scratch/own-deltas/.pannier/deltas"
say "deltas: the same"

# Each repairs what the other wrote.
for who in arm own; do
    blob=$(find "$scratch/$who/blobs/sha256" -type f -size +10k | sort | head -n 1)
    printf '\xff' | dd of="$blob" bs=1 seek=5000 conv=notrunc status=none
    cp "$blob" "$scratch/damaged"
done
status=0
arm --quiet verify "$scratch/own" >/dev/null 2>&1 || status=$?
((status == 4))
arm --quiet repair "$scratch/own"
"$own" --quiet repair "$scratch/arm"
arm --quiet verify --deep "$scratch/arm"
"$own" --quiet verify --deep "$scratch/own"
say "repair: each of what the other wrote"

if [[ $(id -u) == 0 && -x $root/target/tools/containerd-2.1/usr/bin/containerd && -x $root/target/debug/examples/node ]]; then
    node=$root/target/debug/examples/node
    socket=$("$node" start "$scratch/node" 2.1)
    arm --quiet import --address "$socket" --platform linux/amd64 --no-cri medium-v1
    "$own" --quiet import --address "$socket" --platform linux/amd64 --no-cri medium-v1
    arm images --address "$socket" --json >"$scratch/images.arm"
    "$own" images --address "$socket" --json >"$scratch/images.own"
    same images "$scratch/images.arm" "$scratch/images.own"
else
    say "SKIPPED: import, which needs root, target/tools/containerd-2.1 and target/debug/examples/node"
fi
say "passed"

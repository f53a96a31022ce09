#!/usr/bin/env bash
# What deltas cost and save: an update of the corpus rebuilt from deltas, against reading the layers whole from a stick.
# Usage: tests/bench-delta.sh [MB_PER_SECOND]    (of the stick, default 30)
# Needs both corpora, a release build with the examples node and delta, and root for the node's half. The stick's times are
# its bytes divided by its speed; everything else is measured, on this machine's disk, with warm caches.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
speed=${1:-30}
work=$(mktemp -d "${TMPDIR:-/var/tmp}/pannier-bench-delta.XXXXXX")
pannier=$root/target/release/pannier
node=$root/target/release/examples/node
stop_nodes() { local dir; for dir in "$work"/node-*; do [[ ! -d $dir ]] || "$node" stop "$dir" || true; done; }
trap 'stop_nodes; rm -rf "$work"' EXIT

seconds() { local begun=$EPOCHREALTIME; "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; return 1; }
    awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'; }
export_set() { "$pannier" export --from "oci:target/corpus/$1" --all --to "$work/$2" "${@:3}"; }

echo "cores $(nproc), $(stat -f -c %T "$work"), $("$pannier" --version), a stick of $speed MB/s"
export_set full old >/dev/null 2>&1
echo "export of the update, every layer whole: $(seconds export_set updated whole) s"
echo "export of the update as deltas: $(seconds export_set updated delta --have "medium:$work/old") s"

# Layer by layer: what the node does, against what the stick would take.
python3 - "$work" <<'PY' >"$work/layers"
import glob, json, sys
def record(name):
    return json.load(open(sorted(glob.glob(f"{sys.argv[1]}/{name}/.pannier/commits/*.json"))[-1]))
layers = lambda name: {layer["diffId"]: layer for layer in record(name)["layers"]}
old, whole, delta = layers("old"), layers("whole"), record("delta")
blob = lambda name, digest: f"{sys.argv[1]}/{name}/blobs/sha256/{digest[7:]}"
for d in sorted(delta["deltas"], key=lambda d: -whole[d["diffId"]]["encodings"][0]["size"]):
    new, base = whole[d["diffId"]], old[d["base"]]
    carried = new["encodings"][0]
    print(blob("old", base["encodings"][0]["digest"]), f"{sys.argv[1]}/delta/.pannier/deltas/{d['digest'][7:]}",
          blob("whole", carried["digest"]), new["originals"][0]["size"], carried["size"], d["size"], new["size"])
PY
echo
echo "one layer                gzip  whole  delta   whole: read   delta: read + decode base + apply"
while read -r base patch whole gzip carried size tar; do
    read -r _ _ decode apply < <("$root/target/release/examples/delta" apply "$base" "$patch" "$whole")
    awk -v g="$gzip" -v w="$carried" -v d="$size" -v t="$tar" -v s="$speed" -v x="$decode" -v a="$apply" 'BEGIN {
        printf "tar of %6.1f MB  %8.1f %6.1f %6.2f  %11.2f s   %.2f + %.2f + %.2f = %.2f s\n",
            t / 1e6, g / 1e6, w / 1e6, d / 1e6, w / 1e6 / s, d / 1e6 / s, x, a, d / 1e6 / s + x + a }'
    echo "$gzip $carried $size $decode $apply" >>"$work/sums"
done <"$work/layers"
awk -v s="$speed" '{ g += $1; w += $2; d += $3; x += $4; a += $5 } END {
    printf "all                    %8.1f %6.1f %6.2f  %11.2f s   %.2f + %.2f + %.2f = %.2f s (%.2f of it)\n",
        g / 1e6, w / 1e6, d / 1e6, w / 1e6 / s, d / 1e6 / s, x, a, d / 1e6 / s + x + a, (d / 1e6 / s + x + a) / (w / 1e6 / s)
    printf "bytes: deltas are %.3f of the gzip, %.3f of the layers carried whole\n", d / g, d / w }' "$work/sums"

# The whole import, unpacking included, into a node that has the older set.
[[ $(id -u) == 0 ]] || { echo "not root: no node"; exit 0; }
echo
for kind in whole delta; do
    socket=$("$node" start "$work/node-$kind")
    "$pannier" import "$work/old" --address "$socket" >/dev/null 2>&1
    took=$(seconds /usr/bin/time -f %M -o "$work/memory" "$pannier" import "$work/$kind" --address "$socket")
    bytes=$(du -bs "$work/$kind" | cut -f 1)
    awk -v k="$kind" -v t="$took" -v b="$bytes" -v s="$speed" -v m="$(<"$work/memory")" 'BEGIN {
        printf "import, %s: %s s from this disk, peak memory %d MiB; the stick alone would take %.1f s\n", k, t, m / 1024, b / 1e6 / s }'
    "$node" stop "$work/node-$kind"
done

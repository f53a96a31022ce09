#!/usr/bin/env bash
# Figures of carrying the corpus: sizes, times and memory, each against what it is to be compared with. Called by `make figures`.
# Needs root for the node's half. Times are of one run on this machine; only their ratios mean anything.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
corpus=target/corpus/full
work=$(mktemp -d "${TMPDIR:-/var/tmp}/pannier-figures.XXXXXX")
pannier=$root/target/release/pannier
node=$root/target/release/examples/node
trap '[[ ! -d $work/node ]] || "$node" stop "$work/node" || true; rm -rf "$work"' EXIT

# Runs a command; sets seconds and the peak of its memory in MiB.
measure() {
    local report=$work/time
    /usr/bin/time -f '%e %M' -o "$report" "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; return 1; }
    read -r seconds memory < <(tail -n 1 "$report")
    memory=$((memory / 1024))
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }

echo "cores $(nproc), $(stat -f -c %T "$work"), $("$pannier" --version)"

measure "$pannier" export --from "oci:$corpus" --all --to "$work/m"
first=$seconds
echo "export of the corpus: $seconds s, peak memory $memory MiB"
before=$(find "$work/m" -type f -printf '%p %s %T@\n' | sort | sha256sum)
measure "$pannier" export --from "oci:$corpus" --all --to "$work/m"
after=$(find "$work/m" -type f -printf '%p %s %T@\n' | sort | sha256sum)
echo "export of it again: $seconds s, $(ratio "$seconds" "$first") of the first; files changed: $([[ $before == "$after" ]] && echo none || echo SOME)"

# The layers: on the medium, as gzip at the source, and as `zstd -9 --long=24` makes them from each distinct tar.
"$pannier" verify --deep "$work/m" >/dev/null 2>&1
read -r carried gzip < <(python3 - "$work/m" <<'PY'
import glob, json, sys
record = json.load(open(sorted(glob.glob(sys.argv[1] + "/.pannier/commits/*.json"))[-1]))
print(sum(l["encodings"][0]["size"] for l in record["layers"]), sum(l["originals"][0]["size"] for l in record["layers"]))
PY
)
floor=0
while read -r digest; do
    size=$(zstd -dcq <"$work/m/blobs/sha256/$digest" 2>/dev/null | zstd -9 --long=24 -cq | wc -c)
    floor=$((floor + size))
done < <(python3 - "$work/m" <<'PY'
import glob, json, sys
record = json.load(open(sorted(glob.glob(sys.argv[1] + "/.pannier/commits/*.json"))[-1]))
print("\n".join(l["encodings"][0]["digest"][7:] for l in record["layers"]))
PY
)
echo "layers: $carried bytes; $(ratio "$carried" "$floor") of zstd -9 --long=24 ($floor), $(ratio "$carried" "$gzip") of gzip ($gzip)"

# One layer of 2 GiB that shrinks to about half.
mkdir "$work/large"
python3 - "$work/large" <<'PY'
import hashlib, json, os, random, subprocess, sys
out = sys.argv[1]
os.makedirs(out + "/blobs/sha256")
os.makedirs(out + "/rootfs")
chunk, state = 1 << 20, random.Random(7)
with open(out + "/rootfs/data", "wb") as data:
    for _ in range(2048):
        data.write(state.randbytes(chunk // 2).hex().encode())
subprocess.run(["tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C", out + "/rootfs", "-cf", out + "/layer", "data"], check=True)
os.remove(out + "/rootfs/data")
def put(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(chunk):
            digest.update(block)
    size = os.path.getsize(path)
    os.rename(path, f"{out}/blobs/sha256/{digest.hexdigest()}")
    return {"digest": "sha256:" + digest.hexdigest(), "size": size}
def document(value, kind):
    with open(out + "/document", "w") as file:
        json.dump(value, file)
    return {"mediaType": kind, **put(out + "/document")}
layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", **put(out + "/layer")}
config = document({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}, "application/vnd.oci.image.config.v1+json")
kind = "application/vnd.oci.image.manifest.v1+json"
manifest = document({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}, kind)
manifest["annotations"] = {"io.containerd.image.name": "docker.io/library/large:1"}
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open(out + "/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(out + "/oci-layout", "w"))
PY
measure "$pannier" export --from "oci:$work/large" --all --platform linux/amd64 --to "$work/l"
echo "export of one layer of 2 GiB: $seconds s, peak memory $memory MiB"
rm -rf "$work/large"

if [[ $(id -u) != 0 ]]; then
    echo "not root: no figures of the import" >&2
    exit
fi
for version in 1.6 1.7 2.1; do
    socket=$("$node" start "$work/node" "$version")
    measure "$pannier" import "$work/m" --address "$socket"
    first=$seconds
    echo "containerd $version: import of the corpus: $seconds s, peak memory of the importer $memory MiB"
    measure "$pannier" import "$work/m" --address "$socket" --json
    sent=$(tail -n 1 "$work/out" | python3 -c 'import json, sys; print(json.load(sys.stdin)["bytesSent"])')
    echo "containerd $version: import of it again: $seconds s, $(ratio "$seconds" "$first") of the first; $sent bytes sent"
    if [[ $version == 2.1 ]]; then
        measure "$pannier" import "$work/l" --address "$socket"
        echo "containerd $version: import of one layer of 2 GiB: $seconds s, peak memory of the importer $memory MiB"
    fi
    "$node" stop "$work/node"
    rm -rf "$work/node"
done

#!/usr/bin/env python3
"""What holds the memory that a set's images take: heaptrack's profile at the peak, with few images and with many. Called by `make heap`.

Each allocation that is alive at the peak counts for the first of PARTS that its stack shows. Needs root, for a containerd.
"""
import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from inputs import Inputs
from node import Node

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = (10, 1000)
# What a frame of a stack says of the allocation, the first that fits.
PARTS = [
    ("commit record", r"medium::(commits|record)|medium::Medium::(open|commit|find|create|reload)|Record as .*serde"),
    ("compressing", r"ZSTD|zstd_safe|layer::encode"),
    ("what is wanted", r"import::wanted|source::resolve"),
    ("what the node holds", r"node::inventory"),
    ("plan", r"plan::import|plan::export|ImportPlan|ExportPlan"),
    ("carrying it out", r"node::work|node::carry_out|export::carry|node::send|node::unpack|node::name"),
    ("connection", r"tonic|hyper|h2::|tokio|tower"),
    ("index.json", r"medium::index|oci_layout|Index::parse"),
    ("the rest of an import or export", r"import::|export::"),
]


def profile(command, work):
    """Bytes that are alive at the peak, by part."""
    data, stacks = work / "heap", work / "stacks"
    for old in work.glob("heap*"):
        old.unlink()
    subprocess.run(["heaptrack", "-o", str(data), *map(str, command)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["heaptrack_print", "-f", str(next(work.glob("heap*"))), "-F", str(stacks), "--flamegraph-cost-type", "peak"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts = collections.Counter()
    for line in stacks.read_text(errors="replace").splitlines():
        stack, _, size = line.rpartition(" ")
        parts[next((part for part, pattern in PARTS if re.search(pattern, stack)), "everything else")] += int(size)
    return parts


def print_profile(what, few, many):
    print(f"\n{what}: KiB alive at the peak\n\n| | {COUNTS[0]} images | {COUNTS[1]} images | KiB an image |\n|---|---|---|---|")
    rows = sorted(set(few) | set(many), key=lambda part: -many[part])
    for part in [part for part in rows if max(few[part], many[part]) > 16 << 10]:
        each = (many[part] - few[part]) / (COUNTS[1] - COUNTS[0]) / 1024
        print(f"| {part} | {few[part] / 1024:.0f} | {many[part] / 1024:.0f} | {each:.1f} |")
    total = (sum(many.values()) - sum(few.values())) / (COUNTS[1] - COUNTS[0]) / 1024
    print(f"| all | {sum(few.values()) / 1024:.0f} | {sum(many.values()) / 1024:.0f} | {total:.1f} |", flush=True)


def main():
    inputs = Inputs(ROOT, ROOT / "target/bench/inputs")
    work = pathlib.Path(tempfile.mkdtemp(prefix="pannier-heap."))
    node, found = Node(ROOT, work / "node", "2.1"), collections.defaultdict(list)
    try:
        for count in COUNTS:
            node.start()
            steps = {"import": ["import", "--quiet", inputs.small_medium(count), "--address", node.socket],
                     "export": ["export", "--quiet", "--from", f"oci:{inputs.small_layout(count)}", "--all", "--to", work / f"out-{count}"]}
            for what, words in [("first import", steps["import"]), ("import of what is there", steps["import"]), ("export", steps["export"])]:
                print(f"  {what}, {count} images", file=sys.stderr, flush=True)
                found[what].append(profile([inputs.pannier, *words], work))
            node.stop()
    finally:
        node.stop()
        shutil.rmtree(work, ignore_errors=True)
    for what, (few, many) in found.items():
        print_profile(what, few, many)


if __name__ == "__main__":
    main()

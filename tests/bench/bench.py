#!/usr/bin/env python3
"""Pannier against its peers, in turn: bench.py [--rounds N] [--only NAME,NAME...] [--list]. Called by `make bench`; needs root.

Each case runs its contenders A B A B and compares the medians of their times. Results are added to target/bench/results.json, and
printed from it as a table: the cases that are not run keep what an earlier run found.
"""
import argparse
import fnmatch
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import cases
import report
import rounds
from disk import most_of
from inputs import SMALL, Inputs
from node import Node
from stick import Stick

ROOT = pathlib.Path(__file__).resolve().parents[2]


def shown(*command):
    out = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    return out.strip().splitlines()[0] if out.strip() else "?"


def machine(work):
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    tools = ROOT / "target/tools"
    return {"cores": f"{os.cpu_count()} ({model[0] if model else platform.machine()})", "kernel": platform.release(),
            "filesystem": "ext4 on a loop device, on " + shown("stat", "-f", "-c", "%T", work.parent), "pannier": shown(ROOT / "target/release/pannier", "--version"),
            "containerd": ", ".join(shown(tools / f"containerd-{v}/usr/bin/containerd", "--version").split()[2] for v in cases.VERSIONS),
            "skopeo": shown("skopeo", "--version"), "zstd": shown("zstd", "--version"),
            "page cache": "warm, unless a case says cold: then emptied before each command"}


def run_case(make, count):
    case = make()
    most = {contender.name: contender.most for contender in case.contenders}
    print(f"{case.name}: {case.what}", file=sys.stderr, flush=True)
    try:
        taken = rounds.compare(case.contenders, min(count, case.rounds or count), case.cold)
    finally:
        case.close()
    return {"what": case.what, "bars": case.bars, "slower": case.slower, "memory": case.memory, "contenders": [
        {"name": name, "median": entry.median(), "seconds": entry.seconds, "peak": max(entry.peak), "most": most[name],
         "cpu": statistics.median(entry.cpu), **entry.notes}
        for name, entry in taken.items()]}


def scale(inputs, work, nodes, count):
    """Time and memory by number of images: export, import, and import of what is there, against ctr."""
    points = []
    for images in SMALL:
        layout, medium = inputs.small_layout(images), inputs.small(images)
        export, into = cases.Export(inputs, work), cases.Import(inputs, work, nodes("2.1"))
        first = rounds.compare([export.pannier("export", source=lambda: f"oci:{layout}"), into.pannier(lambda: medium[0], name="import"),
                                into.ctr("ctr import", lambda: medium[1])], count)
        into.node.start()
        rounds.timed(into.pannier(lambda: medium[0], fresh=False).before())
        again = rounds.compare([into.pannier(lambda: medium[0], fresh=False, name="import again")], count)
        into.node.stop()
        points.append({"images": images, "seconds": {name: entry.median() for name, entry in (first | again).items()},
                       "peak": {name: max(entry.peak) for name, entry in (first | again).items()}})
    return points


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="*", help="patterns of names, with commas between them")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    options = parser.parse_args()
    home = ROOT / "target/bench"
    inputs = Inputs(ROOT, home / "inputs")
    home_of_disks = pathlib.Path(tempfile.mkdtemp(prefix="pannier-bench.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    work, opened = home_of_disks / "disk", []

    def nodes(version):
        opened.append(Node(ROOT, work / f"node-{len(opened)}", version))
        return opened[-1]

    every = cases.all_cases(inputs, work, nodes, lambda: Stick(home_of_disks, 2 << 30))
    wanted = [name for name in [*every, "scale"] if any(fnmatch.fnmatch(name, pattern) for pattern in options.only.split(","))]
    if options.list or not wanted:
        print("\n".join([*every, "scale"]))
        os.rmdir(home_of_disks)
        return 0 if options.list else 2
    if os.geteuid() != 0:
        sys.exit("bench: needs root: containerds are started and filesystems mounted")
    saved = home / "results.json"
    results = json.loads(saved.read_text()) if saved.exists() else {"cases": {}}
    # Told to end, it tidies up as it does when a command fails.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    disk = most_of(home_of_disks)
    results["machine"] = machine(work)
    try:
        for name in wanted:
            if name == "scale":
                results["scale"] = scale(inputs, work, nodes, min(options.rounds, 3))
            else:
                results["cases"][name] = run_case(every[name], options.rounds)
            order = {name: place for place, name in enumerate(every)}
            results["cases"] = dict(sorted(results["cases"].items(), key=lambda item: order.get(item[0], len(order))))
            text = report.save(results, home)
    finally:
        for node in opened:
            node.stop()
        disk.close()
        shutil.rmtree(home_of_disks, ignore_errors=True)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What media cost that were made to exhaust whoever reads them: seconds and peak memory of each command that meets one.

bombs.py [NAME]...    (none: all; `make bombs` builds what it runs). As root also imports, into a containerd of its own.

Each is to be refused in under a second with less than 128 MiB; one that is not is told, and the exit status is 1.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PANNIER = ROOT / "target/release/pannier"
NODE = ROOT / "target/release/examples/node"
SECONDS, MEBIBYTES = 1.0, 128
OCI = "application/vnd.oci.image"
INDEX, MANIFEST, CONFIG, LAYER = (
    f"{OCI}.{kind}" for kind in ("index.v1+json", "manifest.v1+json", "config.v1+json", "layer.v1.tar")
)
NAME = "example.org/a/b:1"
TAR = bytes(10240)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def described(kind, data):
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def encoded(document):
    return json.dumps(document, separators=(",", ":")).encode()


class Image:
    """A medium, and a layout, of one image with one layer."""

    def __init__(self, layer=TAR, kind=LAYER, said=None, around=lambda manifest: []):
        # What is said of the tar: its size, and that it is the usual one.
        self.said = len(TAR) if said is None else said
        self.blobs = {}
        self.layer = self.add(kind, layer, "layer")
        config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(TAR)]}}
        self.config = self.add(CONFIG, encoded(config), "config")
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": self.config, "layers": [self.layer]}
        self.manifest = self.root = self.add(MANIFEST, encoded(manifest), "manifest")
        for index in around(self.manifest):
            self.root = self.add(INDEX, index, "original-index")

    def add(self, kind, data, role):
        self.blobs[digest(data)] = (data, role)
        return described(kind, data)

    def record(self):
        platform = {"platform": {"os": "linux", "architecture": "amd64"}, "original": self.manifest}
        platform |= {"carried": self.manifest, "config": self.config, "diffIds": [digest(TAR)]}
        image = {"names": [NAME], "original": self.root, "carried": self.manifest, "sequence": 1, "platforms": [platform]}
        layer = {"diffId": digest(TAR), "size": self.said, "originals": [self.layer], "encodings": [self.layer]}
        return {
            "format": "pannier-commit-v1",
            "critical": [],
            "medium": "0" * 32,
            "sequence": 1,
            "previous": None,
            "created": "2026-01-01T00:00:00Z",
            "tool": "pannier 0.1.0",
            "images": [image],
            "layers": [layer],
            "blobs": [{"digest": at, "size": len(data), "role": role} for at, (data, role) in sorted(self.blobs.items())],
        }

    def write(self, to):
        for made in ("blobs/sha256", ".pannier/commits", ".pannier/ingest"):
            (to / made).mkdir(parents=True)
        (to / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        for at, (data, _) in self.blobs.items():
            (to / "blobs/sha256" / at[7:]).write_bytes(data)

    def medium(self, to):
        self.write(to)
        names = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME}
        entry = self.manifest | {"annotations": names | {"io.pannier.original.digest": self.root["digest"]}}
        (to / "index.json").write_bytes(encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
        record = b'{"checksum":"sha256:' + b"0" * 64 + b'",' + encoded(self.record())[1:]
        record = record.replace(b"0" * 64, digest(record)[7:].encode(), 1)
        (to / ".pannier/commits/0000000001.json").write_bytes(record)
        return to

    def layout(self, to):
        self.write(to)
        shutil.rmtree(to / ".pannier")
        entry = self.root | {"annotations": {"io.containerd.image.name": NAME}}
        (to / "index.json").write_bytes(encoded({"schemaVersion": 2, "manifests": [entry]}))
        return to


def zstd(blocks, said=None, first=b""):
    """A frame (RFC 8878) of blocks that each stand for 128 KiB of zeros in four bytes, behind `first`."""
    frame = b"\x28\xb5\x2f\xfd" + (b"\xc0\x38" + said.to_bytes(8, "little") if said else b"\x00\x38")
    frame += (len(first) << 3).to_bytes(3, "little") + first if first else b""
    block = (2 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    return frame + block * (blocks - 1) + (3 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"


def file_of(size):
    """The header of a tar's entry: a file of `size` bytes."""
    entry = tarfile.TarInfo("bomb")
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def nested(levels, times):
    def around(manifest):
        inner = manifest | {"platform": {"os": "linux", "architecture": "amd64"}}
        for _ in range(levels):
            index = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner] * times})
            inner = described(INDEX, index)
            yield index

    return around


def sparse(name):
    """Makes a file 10 GiB long where it is; nothing of that takes up room."""
    return lambda to: (to / name).exists() and os.truncate(to / name, 10 << 30)


def gzip_bomb():
    stream, block = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    return b"".join(stream.compress(block) for _ in range(4096)) + stream.flush()


ZSTD, GZIP = LAYER + "+zstd", LAYER + "+gzip"
# Name: what it is, the image, a change of the files, and the commands that meet it. Not among them: an export of the
# 4 GiB of gzip, which nobody said anything else of, and which is no more than the ratio allows; and `verify` of the
# 10 000 files, which it reads whatever it finds, as fast as the disk has them.
VERIFY, LAYOUT, MEDIUM, IMPORT = "verify --deep", "export of the layout", "export of the medium", "import"
BOMBS = {
    "claims": (
        "1 KiB of zstd that says it is 1 TiB",
        lambda: Image(zstd(250, 1 << 40), ZSTD),
        None,
        [VERIFY, LAYOUT, MEDIUM, IMPORT],
    ),
    "tebibyte": (
        "32 MiB of zstd that is a file of 1 TiB",
        lambda: Image(zstd(1 << 23, first=file_of(1 << 40)), ZSTD),
        None,
        [VERIFY, LAYOUT, MEDIUM, IMPORT],
    ),
    "gzip": ("4 MiB of gzip that is 4 GiB", lambda: Image(gzip_bomb(), GZIP), None, [VERIFY, IMPORT]),
    "index": ("an index.json of 10 GiB", Image, sparse("index.json"), [VERIFY, LAYOUT]),
    "record": (
        "a commit record of 10 GiB",
        Image,
        sparse(".pannier/commits/0000000001.json"),
        [VERIFY, MEDIUM, IMPORT],
    ),
    "chain": ("10 000 indexes in one another", lambda: Image(around=nested(10_000, 1)), None, [LAYOUT, MEDIUM, IMPORT]),
    "diamond": (
        "40 indexes, each with the next twice: 2^40 paths",
        lambda: Image(around=nested(40, 2)),
        None,
        [VERIFY, LAYOUT, MEDIUM, IMPORT],
    ),
    "wide": (
        "4 indexes, each with the next 2000 times: 2^43 paths, and within the limits",
        lambda: Image(around=nested(4, 2000)),
        None,
        [VERIFY, LAYOUT, MEDIUM, IMPORT],
    ),
}


def measured(arguments):
    """Exit status, seconds, peak memory in MiB, and what was said last."""
    # By a small program in between: a child's peak begins with that of whoever starts it.
    with tempfile.NamedTemporaryFile() as report:
        timed = ["/usr/bin/time", "-q", "-f", "%e %M", "-o", report.name, PANNIER, *arguments]
        done = subprocess.run(timed, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        seconds, memory = report.read().split()
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [""]
    return done.returncode, float(seconds), int(memory) / 1024, lines


def commands(name, work, socket):
    """Each command that meets it, and what it may end with."""
    _, make, change, wanted = BOMBS[name]
    image = make()
    medium, layout = image.medium(work / "medium"), image.layout(work / "layout")
    if change:
        change(medium)
        change(layout)
    export = ["export", "--all", "--platform", "linux/amd64"]
    every = {
        VERIFY: ["verify", "--deep", medium],
        LAYOUT: [*export, "--from", f"oci:{layout}", "--to", work / "to"],
        MEDIUM: [*export, "--from", f"medium:{medium}", "--to", work / "again"],
        IMPORT: ["import", medium, "--address", socket, "--no-cri"] if socket else None,
    }
    for what in wanted:
        if every[what]:
            yield what, every[what], [0] if name == "wide" else [4] if what == VERIFY else [1, 4]


def main(names):
    socket, failed = None, False
    work = pathlib.Path(tempfile.mkdtemp(prefix="pannier-bombs.", dir=os.environ.get("TMPDIR", "/var/tmp")))
    try:
        if os.geteuid() == 0:
            start = subprocess.run([NODE, "start", work / "node", "2.1"], stdout=subprocess.PIPE, text=True, check=True)
            socket = start.stdout.strip()
        for name in names or BOMBS:
            here = work / name
            here.mkdir()
            print(f"{name}: {BOMBS[name][0]}")
            for what, arguments, expected in commands(name, here, socket):
                status, seconds, memory, lines = measured(arguments)
                right = status in expected and seconds < SECONDS and memory < MEBIBYTES
                failed |= not right
                print(f"  {what:22} exit {status}  {seconds:6.2f} s  {memory:5.0f} MiB{'' if right else '  NOT AS IT SHOULD BE'}")
                if os.environ.get("SAID") or not right:
                    print("    " + "\n    ".join(lines[-3:]))
            shutil.rmtree(here)
    finally:
        if socket:
            subprocess.run([NODE, "stop", work / "node"], check=False)
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(1 if failed else 0)


main(sys.argv[1:])

#!/usr/bin/env python3
"""Writes what the fuzzer starts from: seeds.py TARGET DIRECTORY."""

import gzip
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent.parent / "fixtures"
OCI = "application/vnd.oci.image"
CONFIG = f'{{"mediaType":"{OCI}.config.v1+json","digest":"@%d","size":#%d}}'
LAYER = f'{{"mediaType":"{OCI}.layer.v1.tar","digest":"@%d","size":#%d}}'
PLATFORM = '"platform":{"os":"linux","architecture":"amd64"}'
MANIFEST = f'{{"mediaType":"{OCI}.manifest.v1+json","digest":"@%d","size":#%d}}'
OTHER = "sha256:" + "ab" * 32


def described(pattern, at):
    return pattern % (at, at)


def manifest():
    """A manifest, its config and its layer: each names those behind it."""
    config = f'{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["@0"]}}}}'
    text = f'{{"schemaVersion":2,"config":{described(CONFIG, 0)},"layers":[{described(LAYER, 1)}]}}'
    return [text, config, "the tar"]


def index(entries):
    return f'{{"schemaVersion":2,"mediaType":"{OCI}.index.v1+json","manifests":[{entries}]}}'


def walk():
    one = described(MANIFEST, 0)
    yield "\0".join(manifest())
    yield "\0".join([index(one[:-1] + "," + PLATFORM + "}"), *manifest()])
    nested = one.replace("manifest.v1", "index.v1")
    yield "\0".join([index(f"{nested},{nested}")] * 6 + [index(one), *manifest()])
    yield '{"schemaVersion":1,"fsLayers":[]}'


def record(at):
    """A record's body; the manifest is the document `at` behind it. `None`: one of nothing in particular."""
    digest, size = (OTHER, "2") if at is None else ("@%d", "#%d")
    name = lambda kind, offset: (
        f'{{"mediaType":"{OCI}.{kind}","digest":"{digest}","size":{size}}}'.replace("%d", str((at or 0) + offset))
    )
    manifest, config, layer = name("manifest.v1+json", 0), name("config.v1+json", 1), name("layer.v1.tar", 2)
    blob = lambda of, role: f'{{{of.split(",", 1)[1][:-1]},"role":"{role}"}}'
    diff_id = digest.replace("%d", str((at or 0) + 2))
    image = (
        f'{{"names":["example.org/a/b:1"],"original":{manifest},"carried":{manifest},"platforms":[{{{PLATFORM},'
        f'"original":{manifest},"carried":{manifest},"config":{config},"diffIds":["{diff_id}"]}}],"sequence":1,'
        f'"referrers":[]}}'
    )
    delta = (
        f'{{"diffId":"{OTHER}","base":"{diff_id}","baseSize":7,"baseBlobs":[],"digest":"{OTHER}","size":5,"window":10}}'
    )
    recovery = (
        f'{{"percent":10,"covers":"{OTHER}","block":4096,"groups":1,"parity":1,'
        f'"files":[{{"name":"0000000001.parity","digest":"{OTHER}","size":4096}}]}}'
    )
    start = (
        '{"format":"pannier-commit-v1","critical":[],"medium":"' + "0" * 32 + '","sequence":1,"previous":null,'
        '"created":"2026-01-01T00:00:00Z","tool":"pannier 0.1.0"'
    )
    blobs = ",".join([blob(manifest, "manifest"), blob(config, "config"), blob(layer, "layer")])
    layers = f'{{"diffId":"{diff_id}","size":7,"originals":[{layer}],"encodings":[{layer}]}}'
    whole = f'{start},"images":[{image}],"layers":[{layers}],"blobs":[{blobs}]'
    yield whole + "}"
    yield f'{whole},"deltas":[{delta}],"recovery":{recovery}}}'.replace('"critical":[]', '"critical":["deltas"]')


def medium():
    entry = described(MANIFEST, 0)
    for body in record(1):
        yield "\0".join([body, index(entry), *manifest()])


def archives():
    for path in sorted(FIXTURES.glob("archive-*/*.tar")) + sorted(FIXTURES.glob("docker-*/*.tar")):
        yield path.read_bytes()


def inventory():
    layer = f'{{"mediaType":"{OCI}.layer.v1.tar+gzip","digest":"{OTHER}","size":4}}'
    yield (
        '{"format":"pannier-inventory-v1","created":"2026-01-01T00:00:00Z","platform":{"os":"linux",'
        '"architecture":"amd64"},"containerd":"1.7.24","snapshotters":["overlayfs"],"imported":{"' + "0" * 32 + '":1},'
        f'"images":[{{"names":["example.org/a:1"],"config":"{OTHER}","layers":["{OTHER}"],"unpacked":"{OTHER}"}}],'
        f'"layers":{{"{OTHER}":[{layer}]}}}}'
    )


def layer():
    # What `zstd -1` and `zstd --ultra -22 --long=27` make of "the tar", and an empty skippable frame.
    frame = bytes.fromhex("28b52ffd20073900007468652074617 2".replace(" ", ""))
    yield from (b"the tar", gzip.compress(b"the tar"), gzip.compress(b"the ") + gzip.compress(b"tar"), frame)
    yield bytes.fromhex("502a4d1800000000") + frame


def names():
    yield from ("nginx", "quay.io:443/a/b_c/d:1@" + OTHER, OTHER, "linux/arm/v7", "[::1]:5000/a", "A/b")


def lists():
    yield "# images\nnginx:1\nquay.io/a/b@" + OTHER + "\n"
    for path in sorted((FIXTURES / "manifests").rglob("*.yaml")):
        yield path.read_bytes()


def seeds(target):
    made = {
        "record": lambda: record(None),
        "signature": lambda: [(HERE / "seeds/signature").read_bytes()],
        "signers": lambda: [
            (HERE / "seeds/allowed").read_bytes(),
            (HERE / "seeds/allowed").read_bytes().replace(b" ", b' namespaces="git,pan*",valid-after="20260101Z" ', 1),
        ],
    }
    return made.get(target) or globals()[target]


def main(target, directory):
    for number, seed in enumerate(seeds(target)()):
        data = seed if isinstance(seed, bytes) else seed.encode()
        (pathlib.Path(directory) / f"seed-{number:02}").write_bytes(data)


main(*sys.argv[1:])

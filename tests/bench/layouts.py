"""OCI layouts made for the benchmark: many small images, one with a large layer, and a set with one layer changed."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import random
import shutil
import tarfile

OCI = "application/vnd.oci.image."
NAME = "io.containerd.image.name"


class Layout:
    """An OCI layout that is being written."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        (self.path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        self.manifests = []

    def blob(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": OCI + media_type, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, files):
        """A gzip layer of `files` (name to bytes); its descriptor and diff_id."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return self.gzip_layer(tar.getvalue())

    def gzip_layer(self, tar):
        packed = gzip.compress(tar, 6, mtime=0)
        return self.blob(packed, "layer.v1.tar+gzip"), "sha256:" + hashlib.sha256(tar).hexdigest()

    def plain_layer(self, parts):
        """A layer of one file, made of `parts` of one length and not held in memory; its descriptor and diff_id."""
        digest, size, path = hashlib.sha256(), 0, self.path / "layer"
        with open(path, "wb") as file:
            file.write(bytes(512))
            for part in parts:
                file.write(part)
                size += len(part)
            entry = tarfile.TarInfo("data")
            entry.size = size
            file.write(bytes(-size % 512 + 10240))
            file.seek(0)
            file.write(entry.tobuf())
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        name = digest.hexdigest()
        descriptor = {"mediaType": OCI + "layer.v1.tar", "digest": "sha256:" + name, "size": path.stat().st_size}
        os.rename(path, self.path / "blobs/sha256" / name)
        return descriptor, "sha256:" + name

    def image(self, name, layers, architecture="amd64"):
        config = {"architecture": architecture, "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}}
        manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                    "config": self.blob(json.dumps(config).encode(), "config.v1+json"),
                    "layers": [layer for layer, _ in layers]}
        self.manifests.append(self.blob(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": {NAME: name}})

    def write(self):
        index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(index))
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def small_images(path, count):
    """`count` images: one base of 1 MiB that all share, and a layer of their own with eight files of 8 KiB."""
    layout, state = Layout(path), random.Random(1)
    base = layout.layer({f"base/{n}": state.randbytes(32 << 10).hex().encode() for n in range(16)})
    for number in range(count):
        own = layout.layer({f"app/{number}/{n}": state.randbytes(4 << 10).hex().encode() for n in range(8)})
        layout.image(f"registry.local/small/app-{number:04}:1.0", [base, own])
    layout.write()


def large_layer(path, size):
    """One image with one layer, a plain tar of `size` bytes that shrinks to about half."""
    layout, state = Layout(path), random.Random(2)
    block = state.randbytes(32 << 20).hex().encode()  # farther apart than any window, so each copy counts
    layout.image("registry.local/large:1", [layout.plain_layer([block] * (size // len(block)))])
    layout.write()


def large_update(path, size, new):
    """Three images, each with a plain layer of about `size` bytes; of the `new` ones, a tenth differs."""
    layout, part = Layout(path), 10 << 20
    for number in range(3):
        state, other = random.Random(number), random.Random(100 + number)

        def parts(state=state, other=other):
            for at in range(size // (2 * part)):
                kept = state.randbytes(part)
                yield (other.randbytes(part) if new and at % 10 == 5 else kept).hex().encode()
        layout.image(f"registry.local/large-{number}:{2 if new else 1}", [layout.plain_layer(parts())])
    layout.write()


def registry_storage(source, path):
    """What a docker-registry has on its disk when the images of a layout were pushed to it; blobs are hard links."""
    source, root = pathlib.Path(source), pathlib.Path(path) / "docker/registry/v2"

    def link(at, digest):
        at.mkdir(parents=True, exist_ok=True)
        (at / "link").write_text("sha256:" + digest)
    for entry in index_of(source)["manifests"]:
        name, _, tag = entry["annotations"][NAME].partition("/")[2].rpartition(":")
        repository, manifest = root / "repositories" / name, entry["digest"].removeprefix("sha256:")
        link(repository / "_manifests/revisions/sha256" / manifest, manifest)
        link(repository / "_manifests/tags" / tag / "current", manifest)
        link(repository / "_manifests/tags" / tag / "index/sha256" / manifest, manifest)
        for digest in reachable(source, entry["digest"]):
            link(repository / "_layers/sha256" / digest, digest)
            blob = root / "blobs/sha256" / digest[:2] / digest
            if not blob.exists():
                blob.mkdir(parents=True)
                os.link(source / "blobs/sha256" / digest, blob / "data")


def index_of(layout):
    return json.loads((pathlib.Path(layout) / "index.json").read_text())


def blob_of(layout, digest):
    return (pathlib.Path(layout) / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()


def document_of(layout, digest):
    return json.loads(blob_of(layout, digest))


def names_of(layout):
    return [entry["annotations"][NAME] for entry in index_of(layout)["manifests"]]


def layer_files(layout):
    """The layers of a layout's images for this platform, each once."""
    names = {name for entry in index_of(layout)["manifests"] for name in layers_below(layout, entry["digest"])}
    return [layout / "blobs/sha256" / name for name in sorted(names)]


def layers_below(layout, digest):
    document = document_of(layout, digest)
    for child in document.get("manifests", []):
        if child.get("platform", {}).get("architecture", "amd64") == "amd64":
            yield from layers_below(layout, child["digest"])
    for layer in document.get("layers", []):
        yield layer["digest"].removeprefix("sha256:")


def some_images(source, path, count):
    """The first `count` images of a layout with one platform each, with hard links to its blobs."""
    source, layout = pathlib.Path(source), Layout(path)
    for entry in index_of(source)["manifests"][:count]:
        layout.manifests.append(entry)
        for digest in reachable(source, entry["digest"]):
            target = layout.path / "blobs/sha256" / digest
            if not target.exists():
                os.link(source / "blobs/sha256" / digest, target)
    layout.write()


def reachable(layout, digest):
    """The names of all files that a manifest or index needs, its own included."""
    yield digest.removeprefix("sha256:")
    document = document_of(layout, digest)
    for child in document.get("manifests", []):
        yield from reachable(layout, child["digest"])
    for blob in [document["config"], *document["layers"]] if "layers" in document else []:
        yield blob["digest"].removeprefix("sha256:")


def with_new_layer(source, path):
    """A copy of a layout in which the last layer of one image, the one of median size, has one file more."""
    source = pathlib.Path(source)
    shutil.copytree(source, path, copy_function=os.link, ignore=shutil.ignore_patterns("index.json"))
    layout = Layout(path)
    entries = index_of(source)["manifests"]
    images = [(entry, document_of(source, entry["digest"])) for entry in entries]
    images = sorted(((entry, document) for entry, document in images if "layers" in document), key=lambda image: image[1]["layers"][-1]["size"])
    chosen, manifest = images[len(images) // 2]
    config = document_of(source, manifest["config"]["digest"])
    tar = io.BytesIO(gzip.decompress(blob_of(source, manifest["layers"][-1]["digest"])))
    with tarfile.open(fileobj=tar, mode="a") as archive:
        entry = tarfile.TarInfo("updated")
        entry.size = 8
        archive.addfile(entry, io.BytesIO(b"updated\n"))
    manifest["layers"][-1], config["rootfs"]["diff_ids"][-1] = layout.gzip_layer(tar.getvalue())
    manifest["config"] = layout.blob(json.dumps(config).encode(), "config.v1+json")
    annotations = chosen.get("annotations", {})
    changed = layout.blob(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": annotations}
    layout.manifests = [changed if entry is chosen else entry for entry in entries]
    layout.write()

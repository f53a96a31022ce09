"""What the benchmark works on, made once and kept in target/bench/inputs."""
import functools
import shutil
import subprocess
import sys

import layouts

LARGE = 5 << 30
# The longest tar of which a delta is made is 2 GiB.
UPDATED = 1900 << 20
SMALL = [10, 30, 100, 300, 1000]
# A commit record has place for a few more.
MOST_IMAGES = 8000


class Inputs:
    def __init__(self, root, directory):
        self.root, self.dir = root, directory
        self.pannier = root / "target/release/pannier"
        self.corpus = root / "target/corpus/full"
        self.dir.mkdir(parents=True, exist_ok=True)

    def make(self, name, how):
        """`name` below the inputs; `how` writes it, unless it is there, and it is there only when it is whole."""
        path = self.dir / name
        if not path.exists():
            print(f"  making {name}", file=sys.stderr, flush=True)
            unfinished = self.dir / f"{name}.new"
            if unfinished.is_dir():
                shutil.rmtree(unfinished)
            unfinished.unlink(missing_ok=True)
            how(unfinished)
            unfinished.rename(path)
        return path

    def export(self, layout, path):
        run(self.pannier, "export", "--quiet", "--from", f"oci:{layout}", "--all", "--platform", "linux/amd64", "--to", path)

    @functools.cached_property
    def update(self):
        """Media for nodes that have the corpus: its security updates with every layer whole, and as deltas."""
        updated = self.root / "target/corpus/updated"
        have = ["--have", f"medium:{self.full[0]}"]

        def export(path, *extra):
            run(self.pannier, "export", "--quiet", "--from", f"oci:{updated}", "--all", "--platform", "linux/amd64", "--to", path, *extra)
        return (self.make("update-whole.medium", lambda path: export(path, *have, "--no-delta")),
                self.make("update-delta.medium", lambda path: export(path, *have)))

    def archive(self, layout, path):
        run("tar", "-C", layout, "-cf", path, "oci-layout", "index.json", "blobs")

    def set(self, layout, name):
        """The medium and the two archives of a layout: `name.medium`, `name.gzip.tar`, `name.zstd.tar`."""
        medium = self.make(f"{name}.medium", lambda path: self.export(layout, path))
        gzip = self.make(f"{name}.gzip.tar", lambda path: self.archive(layout, path))
        zstd = self.make(f"{name}.zstd.tar", lambda path: self.archive(medium, path))
        return medium, gzip, zstd

    @functools.cached_property
    def full(self):
        # The gzip archive also has one small image's layer for another platform, under 1 % of its bytes.
        return self.set(self.corpus, "corpus")

    @functools.cached_property
    def twelve(self):
        return self.make("twelve", lambda path: layouts.some_images(self.corpus, path, 12))

    @functools.cached_property
    def old(self):
        return self.set(self.twelve, "old")

    @functools.cached_property
    def new(self):
        return self.set(self.make("updated", lambda path: layouts.with_new_layer(self.twelve, path)), "new")

    def small_layout(self, count):
        return self.make(f"small-{count}", lambda path: layouts.small_images(path, count))

    def small_medium(self, count):
        return self.make(f"small-{count}.medium", lambda path: self.export(self.small_layout(count), path))

    def small_storage(self, count):
        """The same as the storage of a docker-registry."""
        return self.make(f"small-{count}.registry", lambda path: layouts.registry_storage(self.small_layout(count), path))

    @functools.cached_property
    def large_update(self):
        """A medium of three images with a large layer each, and a layout of what became of them."""
        layout = self.make("large-update.old", lambda path: layouts.large_update(path, UPDATED, new=False))
        return (self.make("large-update.medium", lambda path: self.export(layout, path)),
                self.make("large-update.new", lambda path: layouts.large_update(path, UPDATED, new=True)))

    def small(self, count):
        return self.set(self.small_layout(count), f"small-{count}")

    @functools.cached_property
    def large_layout(self):
        return self.make("large", lambda path: layouts.large_layer(path, LARGE))

    @functools.cached_property
    def large(self):
        return self.set(self.large_layout, "large")


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)

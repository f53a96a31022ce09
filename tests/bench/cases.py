"""What is compared with what. A case yields contenders; the first is Pannier's, the others are what it is compared with."""
import dataclasses
import functools
import json
import os
import shutil

from inputs import MOST_IMAGES
from layouts import layer_files, names_of
from registry import Registry
from rounds import Contender, timed

VERSIONS = ["1.6", "1.7", "2.1"]
# MiB of memory that an importer and an exporter may take, whatever the set.
IMPORTER, EXPORTER = 96, 1024
CORES = os.cpu_count()


@dataclasses.dataclass
class Case:
    name: str
    what: str
    contenders: list
    bars: dict  # by name of a contender: the largest ratio of Pannier's median to its median
    slower: tuple = ()  # names of contenders, and the largest ratio to the slower of them
    rounds: int = 0  # at most; 0 for as many as asked
    cold: bool = False
    memory: bool = False  # it is about memory: times are not compared
    close: callable = lambda: None


def shell(text, *words):
    return ["bash", "-euo", "pipefail", "-c", text, "bash", *map(str, words)]


class Export:
    """Exports to a directory that is empty each time."""

    def __init__(self, inputs, work):
        self.inputs, self.work, self.out = inputs, work, work / "out"

    def contender(self, name, command, most=0):
        def before():
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()
            return command()

        def after():
            size = sum(file.stat().st_size for file in self.out.rglob("*") if file.is_file())
            shutil.rmtree(self.out, ignore_errors=True)
            return {"written": size}

        return Contender(name, before, after, most=most)

    def pannier(self, name="pannier", source=None, extra=()):
        from_ = source or (lambda: f"oci:{self.inputs.corpus}")
        return self.wanting(name, lambda: ["--from", from_(), "--all", *extra])

    def wanting(self, name, words):
        """Of what `words` ask for."""
        return self.contender(name, lambda: [str(self.inputs.pannier), "export", "--quiet", "--platform", "linux/amd64", "--to",
                                             str(self.out), *words()], EXPORTER)

    def skopeo(self):
        one = 'skopeo copy --quiet --dest-compress-format zstd --dest-compress-level 9 "oci:$0:$2" "oci:$1:$2"'
        text = f"""src=$1 dst=$2; shift 2; for name; do bash -c '{one}' "$src" "$dst" "$name"; done"""
        return self.contender("skopeo, zstd 9", lambda: shell(text, self.inputs.corpus, self.out, *names_of(self.inputs.corpus)))

    def zstd(self):
        text = f'out=$1; shift; for layer; do gzip -dc "$layer" | zstd -q -9 --long=24 -T{CORES} >"$out/${{layer##*/}}"; done'
        return self.contender("gzip -d | zstd -T", lambda: shell(text, self.out, *layer_files(self.inputs.corpus)))


class Import:
    """Imports into a containerd that is empty each time."""

    def __init__(self, inputs, work, node, prepared=None):
        self.inputs, self.work, self.node, self.prepared = inputs, work, node, prepared

    def contender(self, name, command, fresh=True, most=0):
        def before():
            if fresh or not self.node.socket:
                self.node.start()
                if self.prepared:
                    self.prepared(self.node)
            self.node.computed = self.node.cpu()
            return command()

        def after():
            notes = self.node.growth()
            if fresh:
                self.node.stop()
            return notes

        return Contender(name, before, after, most=most)

    def pannier(self, medium, fresh=True, name="pannier", extra=()):
        return self.contender(name, lambda: [str(self.inputs.pannier), "import", "--quiet", str(medium()), "--address",
                                             self.node.socket, *extra], fresh, IMPORTER)

    def ctr(self, name, archive, fresh=True):
        return self.contender(name, lambda: self.node.ctr("images", "import", archive()), fresh)

    def floor(self, medium):
        """`zstd -d | tar x` of every layer, as many at a time as there are cores, plus a copy of the blobs, plus sync."""
        unpack = 'mkdir "$0/$(basename "$1")"; zstd -dcq "$1" | tar -x --same-owner -C "$0/$(basename "$1")"'
        text = f"""out=$1 medium=$2; shift 2; cp -r "$medium/blobs" "$out/blobs"
            printf '%s\\0' "$@" | xargs -0 -P {CORES} -n 1 bash -euo pipefail -c '{unpack}' "$out"; sync -f "$out" """
        out = self.work / "floor"

        def before():
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            return shell(text, out, medium(), *zstd_layers(medium()))

        return Contender("floor: zstd -d | tar x, cp, sync", before, lambda: shutil.rmtree(out, ignore_errors=True))


def zstd_layers(medium):
    record = max((medium / ".pannier/commits").glob("*.json"))
    return [medium / "blobs/sha256" / layer["encodings"][0]["digest"].removeprefix("sha256:")
            for layer in json.loads(record.read_text())["layers"] if layer["encodings"]]


def all_cases(inputs, work, nodes, sticks):
    """Names to functions that make a case; nothing is made before it is asked for."""
    cases = {}

    def case(name):
        def keep(make):
            cases[name] = functools.partial(make, name)
            return make
        return keep

    @case("export-layout")
    def _(name):
        export = Export(inputs, work)
        return Case(name, "export of the corpus from an OCI layout, everything read back", [export.pannier(), export.skopeo(), export.zstd()],
                    {"skopeo, zstd 9": 0.45, "gzip -d | zstd -T": 1.2})

    @case("export-containerd")
    def _(name):
        node, export = nodes("2.1"), Export(inputs, work)
        node.start()
        timed(node.ctr("images", "import", inputs.full[1]))

        def containerd():
            os.environ["CONTAINERD_ADDRESS"] = node.socket
            return "containerd"
        return Case(name, "export of the corpus from containerd 2.1", [export.pannier(source=containerd), export.zstd()],
                    {"gzip -d | zstd -T": 1.2}, close=node.stop)

    for version in VERSIONS:
        @case(f"import-{version}")
        def _(name, version=version):
            into = Import(inputs, work, nodes(version))
            medium, gzip, zstd = (lambda: inputs.full[0]), (lambda: inputs.full[1]), (lambda: inputs.full[2])
            return Case(name, f"first import of the corpus with unpack, containerd {version}, warm cache",
                        [into.pannier(medium), into.ctr("ctr, gzip", gzip), into.ctr("ctr, zstd", zstd), into.floor(medium)],
                        {"ctr, gzip": 0.8})

        @case(f"import-{version}-cold")
        def _(name, version=version):
            into = Import(inputs, work, nodes(version))
            return Case(name, f"first import of the corpus with unpack, containerd {version}, cold cache",
                        [into.pannier(lambda: inputs.full[0]), into.ctr("ctr, gzip", lambda: inputs.full[1])],
                        {"ctr, gzip": 0.8}, cold=True)

        @case(f"again-{version}")
        def _(name, version=version):
            # A node for each: the names that one makes are not those of the other, which would have to move them.
            first, second = (Import(inputs, work, nodes(version)) for _ in range(2))
            contenders = [first.pannier(lambda: inputs.full[0], fresh=False),
                          second.ctr("ctr, gzip", lambda: inputs.full[1], fresh=False)]
            for contender in contenders:
                timed(contender.before())

            def close():
                first.node.stop()
                second.node.stop()
            return Case(name, f"import of what is there, containerd {version}", contenders, {"ctr, gzip": 0.03}, close=close)

        @case(f"layer-{version}")
        def _(name, version=version):
            # Each starts from what it would have put there itself.
            ours = Import(inputs, work, nodes(version), lambda node: timed([str(inputs.pannier), "import", "--quiet", str(inputs.old[0]),
                                                                          "--address", node.socket]))
            theirs = Import(inputs, work, nodes(version), lambda node: timed(node.ctr("images", "import", inputs.old[1])))
            return Case(name, f"one new layer in a set of twelve images, containerd {version}",
                        [ours.pannier(lambda: inputs.new[0]), theirs.ctr("ctr, gzip", lambda: inputs.new[1])], {"ctr, gzip": 0.2})

        for speed, bar in ((30, 0.6), (120, 0.7)):
            @case(f"stick-{speed}-import-{version}")
            def _(name, version=version, speed=speed, bar=bar):
                stick = sticks()
                shutil.copytree(inputs.full[0], stick.path / "medium")
                shutil.copy(inputs.full[1], stick.path / "gzip.tar")
                os.sync()
                stick.limit(speed * 1000 * 1000)
                into = Import(inputs, work, nodes(version))
                contenders = [into.pannier(lambda: stick.path / "medium"), into.ctr("ctr, gzip", lambda: stick.path / "gzip.tar")]
                for contender in contenders:
                    contender.group = lambda: stick.group
                return Case(name, f"first import from a medium of {speed} MB/s, containerd {version}", contenders, {"ctr, gzip": bar},
                            cold=True, close=stick.close)

    @case("stick-30-export")
    def _(name):
        return export_to_stick(name, inputs, work, sticks)

    @case("delta")
    def _(name):
        whole, delta = inputs.update
        into = updated(inputs, work, nodes)
        return Case(name, "security updates as deltas, with unpack, fast disk, containerd 2.1",
                    [into.pannier(lambda: delta), into.pannier(lambda: whole, name="every layer whole")], {})

    def delta_stick(also):
        """A medium of 30 MB/s with the updates both ways: the contenders, and what puts it away."""
        stick = sticks()
        for medium in inputs.update:
            shutil.copytree(medium, stick.path / medium.name)
        os.sync()
        stick.limit(30 * 1000 * 1000)
        whole, delta = (stick.path / medium.name for medium in inputs.update)
        contenders = also(updated(inputs, work, nodes), whole, delta)
        for contender in contenders:
            contender.group = lambda: stick.group
        return contenders, stick.close

    @case("stick-30-rebuild")
    def _(name):
        contenders, close = delta_stick(lambda into, whole, delta: [
            into.pannier(lambda: delta, extra=["--no-unpack"]),
            Contender("reading the layers whole", lambda: shell('cat "$@" >/dev/null', *zstd_layers(whole)))])
        return Case(name, "layers rebuilt from deltas on a medium of 30 MB/s, into containerd 2.1, not unpacked", contenders,
                    {"reading the layers whole": 1.0}, cold=True, close=close)

    @case("stick-30-delta")
    def _(name):
        contenders, close = delta_stick(lambda into, whole, delta: [
            into.pannier(lambda: delta), into.pannier(lambda: whole, name="every layer whole")])
        return Case(name, "security updates as deltas from a medium of 30 MB/s, with unpack, containerd 2.1", contenders, {},
                    cold=True, close=close)

    @case("verify")
    def _(name):
        medium = inputs.full[0]
        text = f'find "$1" -type f -print0 | xargs -0 -P {CORES} -n 8 sha256sum >/dev/null'
        return Case(name, "verify, cold cache", [Contender("pannier", lambda: [str(inputs.pannier), "verify", "--quiet", str(medium)]),
                                               Contender("sha256sum, all cores", lambda: shell(text, medium))],
                    {"sha256sum, all cores": 1.1}, cold=True)

    @case("small-200")
    def _(name):
        into = Import(inputs, work, nodes("2.1"))
        return Case(name, "first import of 200 small images, containerd 2.1",
                    [into.pannier(lambda: inputs.small(200)[0]), into.ctr("ctr, gzip", lambda: inputs.small(200)[1])], {"ctr, gzip": 0.8})

    @case("large-import")
    def _(name):
        into = Import(inputs, work, nodes("2.1"))
        return Case(name, "first import of one layer of 5 GiB, containerd 2.1",
                    [into.pannier(lambda: inputs.large[0]), into.ctr("ctr, plain tar", lambda: inputs.large[1])], {}, rounds=3)

    @case("large-export")
    def _(name):
        export = Export(inputs, work)
        return Case(name, "export of one layer of 5 GiB", [export.pannier(source=lambda: f"oci:{inputs.large_layout}")], {}, rounds=2)

    case("memory-many")(lambda name: many_images(name, inputs, work, nodes))
    case("memory-registry")(lambda name: from_registry(name, inputs, work))

    @case("memory-deltas")
    def _(name):
        export = Export(inputs, work)
        old, new = inputs.large_update
        return Case(name, "export of deltas of three layers of 1.9 GiB, a tenth new in each",
                    [export.pannier(source=lambda: f"oci:{new}", extra=["--have", f"medium:{old}"])], {}, rounds=1)
    return cases


def many_images(name, inputs, work, nodes):
    """The largest set that fits a medium. One node, so that the second import finds all there."""
    export, into = Export(inputs, work), Import(inputs, work, nodes("2.1"))
    layout, medium = inputs.small_layout(MOST_IMAGES), inputs.small_medium(MOST_IMAGES)
    return Case(name, f"{MOST_IMAGES} small images, as many as fit a medium, containerd 2.1", [
        export.pannier("export", source=lambda: f"oci:{layout}"),
        into.pannier(lambda: medium, fresh=False, name="dry run", extra=["--dry-run"]),
        into.pannier(lambda: medium, fresh=False, name="import"),
        into.pannier(lambda: medium, fresh=False, name="import again"),
        into.pannier(lambda: medium, fresh=False, name="import again, --prune", extra=["--prune"])], {}, rounds=1, memory=True, close=into.node.stop)


def from_registry(name, inputs, work):
    """By number of images."""
    counts, export = (10, 1000, MOST_IMAGES), Export(inputs, work)
    registry = Registry(inputs, work, counts)

    def of(count):
        return export.wanting(f"{count} images", lambda: ["--insecure", registry.address, "--list", str(registry.list(count))])
    return Case(name, "export of small images from a docker-registry", [of(count) for count in counts], {}, rounds=1,
                memory=True, close=registry.stop)


def updated(inputs, work, nodes):
    """Imports into a node that has the corpus as it was."""
    return Import(inputs, work, nodes("2.1"),
                  lambda node: timed([str(inputs.pannier), "import", "--quiet", str(inputs.full[0]), "--address", node.socket]))


def export_to_stick(name, inputs, work, sticks):
    """Against what the medium alone and the compression alone take."""
    stick = sticks()
    shutil.copytree(inputs.full[0], stick.path / "medium")
    os.sync()
    stick.limit(30 * 1000 * 1000)
    fast, slow = Export(inputs, work), Export(inputs, work)
    slow.out = stick.path / "out"
    copy = shell('cp -r "$1/." "$2"; sync -f "$2"', inputs.full[0], slow.out)
    read = shell('find "$1" -type f -print0 | xargs -0 cat >/dev/null', stick.path / "medium")
    contenders = [slow.pannier("pannier --no-verify", extra=["--no-verify"]), slow.contender("the medium alone", lambda: copy),
                  fast.pannier("the compression alone", extra=["--no-verify"]), slow.pannier("pannier, read back"),
                  Contender("one read of the medium", lambda: read)]
    for contender in contenders:
        contender.group = lambda: stick.group
    return Case(name, "export to a medium of 30 MB/s", contenders,
                {}, slower=(["the medium alone", "the compression alone"], 1.1), cold=True, close=stick.close)

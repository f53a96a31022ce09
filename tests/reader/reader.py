#!/usr/bin/env python3
"""A second reader of Pannier's media, written from docs/format.md alone.

    reader.py list MEDIUM                                   what is on it
    reader.py verify MEDIUM [--deep]                        reads and hashes all of it; --deep decodes layers, too
    reader.py extract MEDIUM DIRECTORY [--base DIRECTORY]   files, and layers as tars; bases of deltas from another extraction

Answers in JSON. Exit status 0, 4 if something is damaged, 1 for what this is no reader for. Needs Python 3.9 and python3-zstandard.
"""
import hashlib, json, math, os, pathlib, re, stat, sys, zlib
from itertools import chain
import zstandard

KNOWN = {"deltas", "top-up", "files", "parts", "lane", "expires"}
HEAD, MIB, EMPTY = b'{"checksum":"sha256:', 1 << 20, "sha256:" + hashlib.sha256(b"{}").hexdigest()
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
KINDS = {OCI + "index.v1+json": "index", DOCKER + "distribution.manifest.list.v2+json": "index", OCI + "manifest.v1+json": "manifest",
         DOCKER + "distribution.manifest.v2+json": "manifest", OCI + "config.v1+json": "config", DOCKER + "container.image.v1+json": "config"}
CONTAINERD, REF, ORIGINAL = "io.containerd.image.name", "org.opencontainers.image.ref.name", "io.pannier.original.digest"
FILES = "application/vnd.pannier.files.v1"
SHAPES = {  # section 3.2: member=type; [type] is a list, a member with "?" may be absent
    "record": """format=text critical=[text] medium=id sequence=int previous=digest? created=text tool=text images=[image] layers=[layer] blobs=[blob]
        deltas=[delta]? parts=[parts]? lane=lane? expires=time? topUps=[topUp]? encoded=[encoded]? files=[file]? filesManifest=descriptor?
        root=[rootFile]? volume=volume? recovery=recovery? written=written? verified=level? pruned=pruned?""",
    "image": "names=[text] original=descriptor carried=descriptor platforms=[imagePlatform] sequence=int referrers=[referrer]?",
    "imagePlatform": "platform=platform original=descriptor carried=descriptor config=descriptor diffIds=[digest]",
    "referrer": "subject=digest descriptor=descriptor artifactType=text? name=text? blobs=[descriptor]", "blob": "digest=digest size=size role=role",
    "layer": "diffId=digest size=size originals=[descriptor] encodings=[descriptor] elsewhere=[descriptor]?", "parts": "digest=digest size=int",
    "delta": "diffId=digest base=digest baseSize=size baseBlobs=[descriptor]? digest=digest size=size window=int", "lane": "name=lane-name issued=int",
    "topUp": "sequence=int restsOn=[basis]", "basis": "medium=basisMedium? inventory=basisInventory?", "encoded": "digest=digest level=int window=int",
    "basisMedium": "id=word sequence=int", "basisInventory": "digest=digest created=word platform=platform", "written": "boot=digest disk=int?",
    "file": "name=file-name digest=digest size=size executable=bool", "rootFile": "name=root-name digest=digest size=int",
    "volume": "set=text number=int of=int elsewhere=[elsewhere]", "elsewhere": "volume=int name=text ids=[digest]", "pruned": "names=[text] blobs=[digest]",
    "recovery": "percent=int covers=digest block=int groups=int parity=int files=[recoveryFile]", "recoveryFile": "name=text digest=digest size=size",
    "descriptor": "mediaType=text digest=digest size=size", "platform": "os=text architecture=text variant=text?"}
WORDS = {"text": "(?s:.*)", "digest": "sha256:[0-9a-f]{64}", "id": "[0-9a-fA-F]{32}", "word": "[!-~]{0,40}", "level": r"V0|V0\+|V1|V2|V3",
         "lane-name": "(?!none$)[a-z0-9][a-z0-9._-]{0,63}", "file-name": r"(?![.-])[A-Za-z0-9._+-]{0,254}[A-Za-z0-9_+-]", "root-name": r"pannier|README\.txt",
         "role": "layer|config|manifest|index|original-manifest|original-index|referrer|file", "time": r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d.*"}

class Damaged(Exception): pass  # something is not as the record or the format says
class Refused(Exception): pass  # it is whole, and not for this reader

def need(condition, text):
    if not condition:
        raise Damaged(text)

def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()

def parse(data):
    """Section 3.1: one document, no member twice, nothing that stands for nothing."""
    def unique(pairs):
        need(len(pairs) == len(dict(pairs)), "a member is there twice")
        return dict(pairs)
    try:
        document = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=lambda text: need(False, f"the number {text}"))
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        return document
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON: {error}") from None

def check(value, kind, at):
    """Compares a value with its type; a list that is absent becomes an empty one."""
    if kind.startswith("["):
        need(isinstance(value, list), f"{at} is no list")
        for one in value:
            check(one, kind[1:-1], at)
    elif kind in WORDS:
        need(isinstance(value, str) and re.fullmatch(WORDS[kind], value), f"{at} is no {kind}")
    elif kind in ("bool", "int", "size"):
        right = type(value) is bool if kind == "bool" else type(value) is int and 0 <= value <= (1 << 46 if kind == "size" else 2**64 - 1)
        need(right, f"{at} is no {kind}")
    else:
        need(isinstance(value, dict), f"{at} is no object")
        for member, inner in (pair.split("=") for pair in SHAPES[kind].split()):
            if inner.endswith("?") and value.get(member) is None:
                value[member] = [] if inner.startswith("[") else None
            else:
                need(member in value, f"{at} has no {member}")
                check(value[member], inner.rstrip("?"), f"{at}.{member}")

def kind_of(media_type):
    return KINDS.get(media_type) or ("layer" if ".layer." in media_type or ".rootfs." in media_type else None)

def of_image(image):
    """Every descriptor in an image."""
    for one in [image, *image["platforms"]]:
        yield from (one[member] for member in ("original", "carried", "config") if member in one)
    for referrer in image["referrers"]:
        yield from [referrer["descriptor"], *referrer["blobs"]]

def sound(record):
    """Section 3.5."""
    listed, deltas = {}, record["deltas"]
    in_layers = (blob for layer in record["layers"] for blob in layer["originals"] + layer["encodings"] + layer["elsewhere"])
    in_images = (blob for image in record["images"] for blob in of_image(image))
    for blob in chain(in_images, in_layers, deltas, *(delta["baseBlobs"] for delta in deltas), record["blobs"]):
        size, known = listed.get(blob["digest"], (blob["size"], None))
        found = kind_of(blob.get("mediaType", ""))
        need(size == blob["size"] and (not known or not found or known == found), f"{blob['digest']} stands with two sizes or as two things")
        listed[blob["digest"]] = (size, known or found)
    for what, all_of in (("blob", [blob["digest"] for blob in record["blobs"]]), ("layer", [layer["diffId"] for layer in record["layers"]]),
                         ("name", [n for image in record["images"] for n in set(image["names"])]), ("file", [f["name"].lower() for f in record["files"]])):
        need(len(all_of) == len(set(all_of)), f"a {what} is there twice")
    need(all(len(p["diffIds"]) <= 512 for image in record["images"] for p in image["platforms"]), "an image has more than 512 layers")
    bounds = (record["recovery"] or {}).get("percent", 0) <= 100 and (record["lane"] or {}).get("issued", 0) <= 9_999_999_999
    need(bounds, "a percentage or a time of issue is out of bounds")

def shown(platform):
    """Section 3.4."""
    text = "/".join(filter(None, (platform["architecture"], platform["variant"])))
    for spellings, normal in ((r"(x86_64|x86-64)(/v1)?|amd64/v1", "amd64"), (r"aarch64(/v?8)?|arm64/v?8", "arm64"), (r"(arm|armhf)(/7)?", "arm/v7"),
                              ("armel", "arm/v6"), (r"(i386|i686)(/.*)?", "386")):
        text = normal if re.fullmatch(spellings, text) else text
    return f"{platform['os']}/{text}"

class Medium:
    def __init__(self, root):
        self.root, self.rejected, self.record = pathlib.Path(root).resolve(), [], None
        if not (self.root / ".pannier").is_dir():
            raise Refused("not a medium")
        names = sorted(name for name in os.listdir(self.root / ".pannier/commits") if re.fullmatch(r"[0-9]{10}\.json", name))
        for name in reversed(names[-64:]):  # section 4
            try:
                record = self.parse_record(self.small(f".pannier/commits/{name}", 16 * MIB), int(name[:10]))
                self.record = self.record or record
            except Damaged as reason:
                self.rejected.append((f".pannier/commits/{name}", self.record is None, reason))
            except Refused:
                if self.record is None:
                    raise
        need(self.record, f"no record is whole: {[str(reason) for _, _, reason in self.rejected]}")
        self.sizes = {blob["digest"]: blob["size"] for blob in self.record["blobs"]}
        self.layers = {layer["diffId"]: layer for layer in self.record["layers"]}
        self.deltas = {d: [delta for delta in self.record["deltas"] if delta["diffId"] == d] for d in self.layers}
        self.in_parts = {part["digest"] for part in self.record["parts"]}

    @staticmethod
    def parse_record(data, sequence):
        need(data.startswith(HEAD) and len(data) >= len(HEAD) + 64, "does not begin as a record does")
        found = sha256(HEAD + b"0" * 64 + data[len(HEAD) + 64:])
        need(found[7:].encode() == data[len(HEAD):len(HEAD) + 64], "its checksum does not match")
        record = parse(data)
        check(record.get("critical", []), "[text]", "critical")
        if record.get("format") != "pannier-commit-v1" or set(record.get("critical", [])) - KNOWN:
            raise Refused(f"written by a newer version, {record.get('tool')}")
        check(record, "record", "record")
        sound(record)
        need(record["sequence"] == sequence, "its sequence is not the one in its name")
        return record

    def open(self, name):
        """Section 2: beneath the medium, through no link, regular files only."""
        try:
            need((self.root / name).resolve() == self.root / name, f"{name} leads elsewhere")
            file = os.fdopen(os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
            need(stat.S_ISREG(os.fstat(file.fileno()).st_mode), f"{name} is no regular file")
            return file
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from None

    def small(self, name, most):
        with self.open(name) as file:
            data = file.read(most + 1)
        need(len(data) <= most, f"{name} is longer than {most} bytes")
        return data

    def pieces(self, blob, names=()):
        """Section 5: yields a blob piece by piece; raises, at its end at the latest, if its size or digest is another."""
        found, hashed, size = 0, hashlib.sha256(), blob["size"]
        part = f".pannier/parts/{blob['digest'][7:]}."
        names = names or [(".pannier/deltas/" if "base" in blob else "blobs/sha256/") + blob["digest"][7:]]
        if not (self.root / names[0]).exists() and (self.root / (part + "000")).exists():
            names = [f"{part}{n:03}" for n in range(256) if (self.root / f"{part}{n:03}").exists()]
        for name in names:
            with self.open(name) as file:
                while piece := file.read(MIB):
                    found += len(piece)
                    need(found <= size, f"{name} is longer than {size} bytes")
                    hashed.update(piece)
                    yield piece
        need(found == size and "sha256:" + hashed.hexdigest() == blob["digest"], f"{blob['digest']} has other bytes")

    def read(self, blob, most=4 * MIB):
        need(blob["size"] <= most, f"{blob['digest']} is longer than {most} bytes")
        return b"".join(self.pieces(blob))

    def children(self, blob):
        """Section 7: the entries of an index, or a manifest's config and layers; None where the bytes are damaged, which is told elsewhere."""
        try:
            data = self.read(blob)
        except Damaged:
            return None
        document = parse(data)
        need(isinstance(document, dict) and "fsLayers" not in document, f"{blob['digest']} is no manifest")
        said = kind_of(document.get("mediaType") or blob["mediaType"])
        index, manifest = "manifests" in document, "config" in document or "layers" in document
        right = said == kind_of(blob["mediaType"]) and (index, manifest) == (said == "index", said == "manifest")
        need(right, f"{blob['digest']} is of another kind than is said of it")
        entries = document["manifests"] if index else [document.get("config"), *(document.get("layers") or [])]
        check(entries, "[descriptor]", blob["digest"])
        return entries

    def decode(self, blob, layer, sink=lambda piece: None, base=None):
        """Sections 5 and 6: decodes an encoding, or a delta against the tar of its base, hands the layer's tar to sink and proves it."""
        size, hashed, pieces, first = 0, hashlib.sha256(), self.pieces(blob), b""
        while len(first) < 4 and (piece := next(pieces, None)) is not None:
            first += piece
        is_zstd = base is not None or first[:4] == b"\x28\xb5\x2f\xfd" or (first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F)
        prefix = base and zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        zstd = zstandard.ZstdDecompressor(dict_data=prefix or None, max_window_size=1 << (27 if base is None else 31))
        new = zstd.decompressobj if is_zstd else (lambda: zlib.decompressobj(31)) if first[:2] == b"\x1f\x8b" else None
        decoder = new and new()
        try:
            for piece in chain([first], pieces):
                while piece:
                    decoder = new() if decoder and decoder.eof else decoder
                    out, piece = (decoder.decompress(piece), decoder.unused_data) if decoder else (piece, b"")
                    size += len(out)
                    need(size <= layer["size"], f"{blob['digest']} decodes to more than {layer['size']} bytes")
                    hashed.update(out)
                    sink(out)
        except (zstandard.ZstdError, zlib.error) as error:
            for _ in pieces:  # that its bytes are damaged is told before that they do not decode
                pass
            raise Damaged(f"{blob['digest']} does not decode: {error}") from None
        right = (not decoder or decoder.eof) and size == layer["size"] and "sha256:" + hashed.hexdigest() == layer["diffId"]
        need(right, f"{blob['digest']} decodes to another tar")

    def base(self, delta, folder=None):
        """The bytes of a delta's base, from this medium or from another extraction; None where they are not to be had."""
        tar, path = [], pathlib.Path(folder or os.devnull, "layers", delta["base"][7:] + ".tar")
        for blob in self.layers.get(delta["base"], {"encodings": []})["encodings"][:1]:
            self.decode(blob, self.layers[delta["base"]], tar.append)
        return b"".join(tar) if tar else path.read_bytes() if path.exists() else None

    def is_whole(self, image):
        found = [(self.layers[d]["encodings"] if d in self.layers else [], d) for p in image["platforms"] for d in p["diffIds"]]
        return all(blobs and not self.deltas[d] and not any(blob["digest"] in self.in_parts for blob in blobs) for blobs, d in found)

    def entries(self):
        """Section 9: the entries of index.json that the record gives."""
        record = self.record
        for name, image in sorted((name, i) for i, image in enumerate(record["images"]) if self.is_whole(image) for name in set(image["names"])):
            image = record["images"][image]
            yield {**image["carried"], "annotations": {CONTAINERD: name, REF: name, ORIGINAL: image["original"]["digest"]}}
        for referrer in (referrer for image in record["images"] for referrer in image["referrers"]):
            named = {REF: referrer["name"]} if referrer["name"] else {}
            kind = {"artifactType": referrer["artifactType"]} if referrer["artifactType"] else {}
            yield {**referrer["descriptor"], **kind, "annotations": {ORIGINAL: referrer["descriptor"]["digest"], **named}}
        if record["filesManifest"]:
            yield {**record["filesManifest"], "artifactType": FILES, "annotations": {REF: "files", ORIGINAL: record["filesManifest"]["digest"]}}

    def check_layout(self):
        layout = parse(self.small("oci-layout", 4096))
        need(isinstance(layout, dict) and layout.get("imageLayoutVersion") == "1.0.0", "says no imageLayoutVersion 1.0.0")

    def compare_index(self):
        index = parse(self.small("index.json", 4 * MIB))
        need(isinstance(index, dict), "index.json is no index")
        check(index.setdefault("manifests", []), "[descriptor]", "index.json")
        ours = [entry for entry in index["manifests"] if isinstance((entry.get("annotations") or {}).get(ORIGINAL), str)]
        text = lambda entries: {json.dumps(entry, sort_keys=True) for entry in entries}
        need(text(ours) == text(self.entries()), "index.json has other entries than the record gives")

    def leads(self, blob, wanted, depth=0):
        """Whether a document is the manifest that is wanted, or an index that leads to it; one that is damaged might."""
        if blob["digest"] == wanted or kind_of(blob["mediaType"]) != "index" or depth > 4 or (depth and blob["digest"] not in self.sizes):
            return blob["digest"] == wanted
        entries = self.children(blob)
        return entries is None or any(self.leads(entry, wanted, depth + 1) for entry in entries)

    def prove(self, image):
        """Section 7."""
        for blob in of_image(image):
            need(self.sizes.get(blob["digest"]) == blob["size"], f"{blob['digest']} is not among the blobs")
        for platform in image["platforms"]:
            need(self.leads(image["original"], platform["original"]["digest"]), "the original does not lead to the manifest")
            for member in ("original", "carried"):
                config, *layers = self.children(platform[member]) or [None]
                right = not config or (config["digest"] == platform["config"]["digest"] and len(layers) == len(platform["diffIds"]))
                need(right, f"the {member} manifest has another config or another number of layers")
            for digest, layer in ((blob["digest"], self.layers[diff_id]) for blob, diff_id in zip(layers, platform["diffIds"])):
                lists = {blob["digest"] for blob in layer["encodings"] + (layer["originals"] if layer["elsewhere"] else [])}
                need(digest in lists or (self.deltas[layer["diffId"]] and digest == layer["diffId"]), f"{digest} is no encoding of its layer")
            try:
                config = self.read(platform["config"], 8 * MIB)
            except Damaged:
                continue
            need(parse(config)["rootfs"]["diff_ids"] == platform["diffIds"], "the config lists other layers")
        if [platform["carried"] for platform in image["platforms"]] != [image["carried"]]:
            entries = self.children(image["carried"])
            listed = entries and {entry["digest"] for entry in entries}
            need(entries is None or all(p["carried"]["digest"] in listed for p in image["platforms"]), "a platform is not in the carried index")

def listing(medium):
    record, users, images = medium.record, {}, []
    sizes = {**medium.sizes, **{delta["digest"]: delta["size"] for delta in record["deltas"]}}
    for image in record["images"]:
        layers = {d for p in image["platforms"] for d in p["diffIds"] if d in medium.layers}
        blobs = {blob["digest"] for blob in chain(of_image(image), *(medium.layers[d]["encodings"] + medium.deltas[d] for d in layers))}
        left_out = [d for d in layers if not medium.layers[d]["encodings"] and medium.layers[d]["elsewhere"] and not medium.deltas[d]]
        images.append({"names": sorted(set(image["names"])), "platforms": [shown(p["platform"]) for p in image["platforms"]], "size": sum(sizes.get(d, 0) for d in blobs),
                       "original": image["original"]["digest"], "carried": image["carried"]["digest"], "commit": image["sequence"], "leftOut": len(left_out),
                       "deltas": sum(len(medium.deltas[d]) for d in layers), "referrers": [r["descriptor"]["digest"] for r in image["referrers"]]})
        users.update(dict.fromkeys(blobs))
    return {"medium": record["medium"], "commit": record["sequence"], "created": record["created"], "images": images, "size": sum(sizes.get(d, 0) for d in users),
            "files": record["files"], "lane": record["lane"] and record["lane"]["name"], "expires": record["expires"], "volume": record["volume"]}

def verify(medium, deep):
    record, findings = medium.record, [["record", name, str(why)] for name, _, why in medium.rejected]
    def attempt(kind, subject, action):
        try:
            return action()
        except (Damaged, KeyError, TypeError) as error:
            findings.append([kind, subject, str(error)])
    def whole(blob):
        try:
            base = medium.base(blob) if "base" in blob and deep else None
        except Damaged:  # told of the base
            base = None
        if deep and blob["digest"] in owners and ("base" not in blob or base is not None):
            return medium.decode(blob, owners[blob["digest"]], base=base)
        return [None for _ in medium.pieces(blob)]
    owners = {blob["digest"]: layer for layer in record["layers"] for blob in layer["encodings"] + medium.deltas[layer["diffId"]]}
    attempt("layout-file", "oci-layout", medium.check_layout)
    attempt("index", "index.json", medium.compare_index)
    for image in record["images"]:
        attempt("image", " ".join(sorted(set(image["names"]))), lambda: medium.prove(image))
    for blob in record["blobs"] + record["deltas"]:
        attempt("blob", blob["digest"], lambda: whole(blob))
    for copy in record["root"]:
        attempt("root", copy["name"], lambda: [None for _ in medium.pieces(copy, [copy["name"]])])
    return {"findings": findings}

def extract(medium, to, base):
    written, absent = [], []
    def write(path, pieces):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        with open(to / path, "wb") as file:
            file.writelines(pieces)
        written.append(path)
    for file in medium.record["files"]:
        write(f"files/{file['name']}", medium.pieces(file))
    for config in (p["config"] for image in medium.record["images"] for p in image["platforms"]):
        write(f"configs/{config['digest'][7:]}.json", medium.pieces(config))
    for diff_id, layer in medium.layers.items():
        ways = [(blob, None) for blob in layer["encodings"]] + [(delta, medium.base(delta, base)) for delta in medium.deltas[diff_id]]
        tar = []
        for blob, found in [way for way in ways if way[1] is not None or way[0] in layer["encodings"]][:1]:
            medium.decode(blob, layer, tar.append, found)
            write(f"layers/{diff_id[7:]}.tar", tar)
        absent += [] if tar else [diff_id]
    return {"written": sorted(written), "absent": sorted(absent)}

def main():
    given = [argument for argument in sys.argv[1:] if argument != "--deep"]
    command, path, *rest = given if len(given) > 1 else sys.exit(__doc__)
    try:
        medium = Medium(path)
        if command == "extract":
            answer = extract(medium, pathlib.Path(rest[0]), rest[2] if rest[1:2] == ["--base"] else None)
        else:
            answer = verify(medium, "--deep" in sys.argv) if command == "verify" else listing(medium)
    except (Damaged, Refused) as error:
        print(error, file=sys.stderr)
        sys.exit(4 if isinstance(error, Damaged) else 1)
    print(json.dumps(answer))
    sys.exit(4 if answer.get("findings") else 0)

if __name__ == "__main__":
    main()

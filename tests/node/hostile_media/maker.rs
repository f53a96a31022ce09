//! Makes media and layouts byte by byte, right until something is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};

use crate::support::carry::{run, text};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const NAME: &str = "example.org/a/b:1";
/// What the program may take of memory, in bytes. An export compresses, which takes some of it whatever is read.
const MEMORY: u64 = 128 << 20;
const MEMORY_OF_EXPORT: u64 = 512 << 20;

/// In [`Stick::export`]: refused, as damaged or as lying.
pub(crate) const ANY: i32 = -1;

/// What a medium or a layout is made of.
pub(crate) struct Maker {
    pub(crate) blobs: BTreeMap<Digest, (Vec<u8>, &'static str)>,
    pub(crate) image: Value,
    pub(crate) layers: Vec<Value>,
    pub(crate) root: Descriptor,
}

/// A tar with one file in it.
pub(crate) fn tar(content: &[u8]) -> Vec<u8> {
    crate::support::tarball::Tarball::default().file("etc/file", content).finish()
}

pub(crate) fn config(diff_ids: &[Digest]) -> Value {
    json!({ "os": "linux", "architecture": "amd64", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } })
}

pub(crate) fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
}

/// From the config's and the layer's descriptor to the manifest's bytes.
pub(crate) type ManifestOf = Box<dyn Fn(&Descriptor, &Descriptor) -> Vec<u8>>;
/// From the manifest's descriptor to the indexes around it, each with its media type.
pub(crate) type RootOf = Box<dyn Fn(&Descriptor) -> Vec<(&'static str, Vec<u8>)>>;

/// What the documents of a made image are, for a test to change before they are hashed.
pub(crate) struct Draft {
    pub(crate) layer_type: String,
    pub(crate) layer: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    /// Given the config's and the layer's descriptor, the manifest's bytes.
    pub(crate) manifest: ManifestOf,
    pub(crate) config: Box<dyn Fn(Value) -> Vec<u8>>,
    /// Given the manifest's descriptor, what the name stands for: indexes, the outermost last.
    pub(crate) root: RootOf,
}

impl Default for Draft {
    fn default() -> Self {
        let layer = tar(b"content");
        Self {
            layer_type: LAYER.into(),
            diff_id: Digest::of(&layer),
            size: layer.len() as u64,
            layer,
            manifest: Box::new(|c, l| manifest(c, std::slice::from_ref(l)).to_string().into_bytes()),
            config: Box::new(|config| config.to_string().into_bytes()),
            root: Box::new(|_| Vec::new()),
        }
    }
}

impl Draft {
    pub(crate) fn make(self) -> Maker {
        let mut blobs = BTreeMap::new();
        let mut add = |media_type: &str, bytes: Vec<u8>, role| {
            let blob = Descriptor::of(media_type, &bytes);
            blobs.insert(blob.digest, (bytes, role));
            blob
        };
        let layer = add(&self.layer_type, self.layer, "layer");
        let config = add(CONFIG, (self.config)(config(&[self.diff_id])), "config");
        let manifest = add(MANIFEST, (self.manifest)(&config, &layer), "manifest");
        let mut root = manifest.clone();
        for (media_type, bytes) in (self.root)(&manifest) {
            root = add(media_type, bytes, "original-index");
        }
        let image = json!({ "names": [NAME], "original": root, "carried": manifest, "sequence": 1, "platforms": [{
            "platform": { "os": "linux", "architecture": "amd64" }, "original": manifest, "carried": manifest,
            "config": config, "diffIds": [self.diff_id] }] });
        let layers = vec![
            json!({ "diffId": self.diff_id, "size": self.size, "originals": [layer], "encodings": [layer] }),
        ];
        Maker { blobs, image, layers, root }
    }
}

impl Maker {
    /// The record, without its checksum.
    pub(crate) fn record(&self) -> Value {
        let blobs: Vec<Value> = (self.blobs.iter())
            .map(|(digest, (bytes, role))| json!({ "digest": digest, "size": bytes.len(), "role": role }))
            .collect();
        json!({ "format": "pannier-commit-v1", "critical": [], "medium": "0".repeat(32), "sequence": 1,
            "previous": null, "created": "2026-01-01T00:00:00Z", "tool": "pannier 0.1.0",
            "images": [self.image], "layers": self.layers, "blobs": blobs })
    }

    /// A medium with this record changed by `change`.
    pub(crate) fn medium(&self, change: impl FnOnce(&mut Value)) -> Stick {
        let mut record = self.record();
        change(&mut record);
        let stick = Stick::empty();
        let carried = &self.image["carried"];
        let mut entry = carried.clone();
        entry["annotations"] = json!({ "io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME,
            "io.pannier.original.digest": self.image["original"]["digest"] });
        stick.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        stick.write(
            "index.json",
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string().as_bytes(),
        );
        stick.seal(1, record.to_string().as_bytes());
        self.write_blobs(&stick);
        stick
    }

    /// A layout whose `index.json` lists the root under the name.
    pub(crate) fn layout(&self) -> Stick {
        let stick = Stick::empty();
        let mut entry = json!(self.root);
        entry["annotations"] = json!({ "io.containerd.image.name": NAME });
        stick.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        stick.write("index.json", json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().as_bytes());
        self.write_blobs(&stick);
        stick
    }

    fn write_blobs(&self, stick: &Stick) {
        for (digest, (bytes, _)) in &self.blobs {
            stick.write(&blob(digest), bytes);
        }
    }
}

pub(crate) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A directory that somebody hands over.
pub(crate) struct Stick {
    dir: tempfile::TempDir,
}

impl Stick {
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("pannier-hostile-").tempdir().unwrap();
        for made in ["medium/blobs/sha256", "medium/.pannier/commits", "medium/.pannier/ingest"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("medium")
    }

    /// A path beside the medium.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.at(name), bytes).unwrap();
    }

    /// Writes a commit record with the right checksum.
    pub(crate) fn seal(&self, sequence: u64, body: &[u8]) {
        let prefix = b"{\"checksum\":\"sha256:";
        let mut file = [prefix, &[b'0'; 64][..], b"\",", &body[1..]].concat();
        let checksum = Digest::of(&file).hex();
        file[prefix.len()..][..64].copy_from_slice(checksum.as_bytes());
        self.write(&format!(".pannier/commits/{sequence:010}.json"), &file);
    }

    /// `verify --deep` ends with `status`, and finds `id` with `detail` in it; nothing where both are empty.
    pub(crate) fn verify(&self, status: i32, id: &str, detail: &str) {
        let output = bounded(["verify", "--deep", "--json", text(&self.path())]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let all = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{all}");
        assert!(is_plain(&all), "{all:?}");
        let report = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let report = report.into_iter().find(|document| document["findings"].is_array()).expect("a report");
        let findings = report["findings"].as_array().unwrap();
        let is_it = |f: &&Value| f["id"] == id && f["detail"].as_str().unwrap().contains(detail);
        let notes = findings.iter().all(|finding| finding["severity"] == "note");
        assert!(findings.iter().any(|f| is_it(&f)) || (id.is_empty() && notes), "{findings:#?}");
    }

    /// What the record is refused for: before anything is done by it, by whatever reads a medium.
    pub(crate) fn refused(&self, reason: &str) {
        self.verify(4, "record-damaged", reason);
        run(4, ["list", text(&self.path())]);
    }

    /// An export from the layout ends with `status` and says `reason`.
    pub(crate) fn export(&self, status: i32, reason: &str) {
        self.export_from(&format!("oci:{}", self.path().display()), status, reason);
    }

    /// The same from another source.
    pub(crate) fn export_from(&self, source: &str, status: i32, reason: &str) {
        let to = self.beside("to");
        let output =
            bounded(["export", "--from", source, "--all", "--platform", "linux/amd64", "--to", text(&to)]);
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // A source that lies has a status of its own, where it is its bytes that lie.
        let found = output.status.code().unwrap_or(-1);
        assert!(found == status || (status == ANY && [1, 4].contains(&found)), "{found}: {said}");
        assert!(is_plain(&said) && said.contains(reason), "{said:?}");
        let record = to.join(".pannier/commits/0000000001.json");
        assert_eq!(record.exists(), status == 0, "{said}");
    }
}

/// Runs the program with its memory bounded by the kernel: more than that ends it with another status. Threads'
/// stacks count, and more of them are asked for than are used.
pub(crate) fn bounded<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let memory = if arguments[0] == "export" { MEMORY_OF_EXPORT } else { MEMORY };
    Command::new("prlimit")
        .arg(format!("--data={memory}"))
        .arg(env!("CARGO_BIN_EXE_pannier"))
        .args(arguments)
        .env("MALLOC_ARENA_MAX", "1")
        .env("RUST_MIN_STACK", "1048576")
        .output()
        .unwrap()
}

/// The same, expecting an exit status; what it printed.
pub(crate) fn ends<'a>(status: i32, arguments: impl IntoIterator<Item = &'a str>) -> String {
    let output = bounded(arguments);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{said}");
    said
}

/// Whether a terminal would do nothing with the text but show it.
pub(crate) fn is_plain(text: &str) -> bool {
    let bidi = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| (c.is_control() && c != '\n') || bidi(c))
}

#[test]
fn a_medium_and_a_layout_of_this_make_are_right_until_something_is_changed() {
    let made = Draft::default().make();
    made.medium(|_| ()).verify(0, "", "");
    made.layout().export(0, "");
}

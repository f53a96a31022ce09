//! Running pannier, and looking at a medium from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pannier::image::Digest;
use serde_json::Value;

/// The program, with these arguments and nothing of this machine's settings.
pub(crate) fn pannier<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pannier"));
    command.args(arguments);
    for name in ["CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "PANNIER_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program and expects this exit status.
pub(crate) fn run<'a>(status: i32, arguments: impl IntoIterator<Item = &'a str>) -> Ran {
    expect(status, &mut pannier(arguments))
}

/// Runs a command of the program and expects this exit status.
pub(crate) fn expect(status: i32, command: &mut Command) -> Ran {
    let ran = Ran { output: command.output().unwrap() };
    assert_eq!(ran.output.status.code(), Some(status), "{}{}", ran.stdout(), ran.stderr());
    ran
}

/// Runs the program, expects it to succeed, and tells the peak of its memory in bytes.
///
/// `None`, and it is said, where `time` is missing: a process that a test starts itself counts what the test
/// held when it was made.
pub(crate) fn peak<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    let program = "/usr/bin/time";
    if !Path::new(program).exists() {
        super::skipped(&format!("{program} is missing; run tests/setup/install.sh peers"));
        return None;
    }
    let report = tempfile::NamedTempFile::new().unwrap();
    let pannier = pannier(arguments);
    let mut command = Command::new(program);
    command.args(["-q", "-f", "%M", "-o", text(report.path())]).arg(pannier.get_program());
    command.args(pannier.get_args());
    for (name, _) in pannier.get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    expect(0, &mut command);
    Some(fs::read_to_string(report.path()).unwrap().trim().parse::<u64>().unwrap() * 1024)
}

/// What a run printed.
pub(crate) struct Ran {
    output: Output,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// The last JSON line on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.stdout().lines().last().unwrap()).unwrap()
    }
}

/// Every file below a directory, by its path there.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(directory: &Path, root: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, files);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(directory, directory, &mut files);
    files
}

/// The blobs of a medium, by name.
pub(crate) fn blobs(medium: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&medium.join("blobs/sha256"))
}

/// What must be true of a medium at every moment, whatever happened to the run that wrote it: no
/// record that is whole and no `index.json` names a blob that is missing or wrong.
pub(crate) fn assert_names_only_what_is_there(medium: &Path) {
    let mut named = BTreeSet::new();
    if let Ok(bytes) = fs::read(medium.join("index.json")) {
        let index: Value = serde_json::from_slice(&bytes).expect("index.json is whole");
        reach(medium, &index, &mut named);
    }
    for entry in fs::read_dir(medium.join(".pannier/commits")).into_iter().flatten() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        // A record that was cut off counts for nothing; one that is whole must be right.
        let Ok(record) = pannier::record::Record::parse(&bytes) else { continue };
        named.extend(record.blobs.iter().map(|blob| (blob.digest, blob.size)));
    }
    for (digest, size) in named {
        let bytes = fs::read(medium.join("blobs/sha256").join(digest.hex()))
            .unwrap_or_else(|error| panic!("{digest} is named and cannot be read: {error}"));
        assert_eq!(bytes.len() as u64, size, "{digest}");
        assert_eq!(Digest::of(&bytes), digest);
    }
}

/// Collects what a document names, following it down.
fn reach(medium: &Path, document: &Value, named: &mut BTreeSet<(Digest, u64)>) {
    let lists = ["manifests", "layers"].iter().filter_map(|key| document[key].as_array()).flatten();
    let config = document.get("config").filter(|config| config.is_object());
    for descriptor in lists.chain(config) {
        let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
        named.insert((digest, descriptor["size"].as_u64().unwrap()));
        let media_type = descriptor["mediaType"].as_str().unwrap_or("");
        if media_type.contains("index") || media_type.contains("manifest") {
            let bytes = fs::read(medium.join("blobs/sha256").join(digest.hex())).unwrap();
            reach(medium, &serde_json::from_slice(&bytes).unwrap(), named);
        }
    }
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A layout as a source.
pub(crate) fn oci(path: &Path) -> String {
    format!("oci:{}", path.display())
}

/// Repairs a medium, expecting this exit status; its summary.
pub(crate) fn repair(status: i32, medium: &Path, more: &[&str]) -> Value {
    let arguments = ["repair", "--json", text(medium)];
    let ran = run(status, arguments.into_iter().chain(more.iter().copied()));
    let lines = ran.stdout();
    let documents = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    { documents }.find(|document| document["event"] == "summary").unwrap()
}

/// Flips one bit in the middle of a file; one of containerd's is read-only, which root may write all the same.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

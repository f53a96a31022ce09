//! What is on a node, to be compared; and what must be true of it at every moment.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Read;
use std::time::{Duration, Instant};

use pannier::containerd::Client;
use pannier::image::{Descriptor, Digest};
use serde_json::Value;

use super::node::Node;

type Labels = BTreeMap<String, String>;

/// Everything that an import makes.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    /// Names, what they stand for, and their labels.
    names: BTreeMap<String, (Digest, Labels)>,
    blobs: BTreeMap<Digest, Labels>,
    snapshots: BTreeMap<String, String>,
    /// What should not be there any more: leases, unfinished blobs and snapshots.
    left: Vec<String>,
}

impl State {
    /// What is there now, with what CRI adds of its own.
    pub(crate) fn of(node: &Node) -> Self {
        let client = node.client();
        let images = client.list_images().unwrap();
        let names = images.into_iter().map(|image| {
            // CRI points its own record at whatever it saw last.
            let own = image.name.starts_with("sha256:");
            let target = if own { Digest::of(b"") } else { image.target.digest };
            (image.name, (target, image.labels.into_iter().collect()))
        });
        let blobs = client.blobs().unwrap().into_iter();
        let snapshots = client.list_snapshots("overlayfs").unwrap();
        let leases = client.list_leases().unwrap().into_iter().map(|lease| format!("lease {}", lease.id));
        let partials = client.partials("").unwrap().into_iter().map(|p| format!("ingest {}", p.reference));
        let unfinished = snapshots.iter().filter(|s| !s.committed).map(|s| format!("snapshot {}", s.name));
        Self {
            names: names.collect(),
            blobs: blobs.map(|blob| (blob.digest, blob.labels.into_iter().collect())).collect(),
            left: leases.chain(partials).chain(unfinished).collect(),
            snapshots: snapshots.into_iter().filter(|s| s.committed).map(|s| (s.name, s.parent)).collect(),
        }
    }

    /// What should not be there any more.
    pub(crate) fn left(&self) -> &[String] {
        &self.left
    }

    /// Compares, and tells what differs.
    pub(crate) fn assert_is(&self, expected: &Self, what: &str) {
        assert_eq!(self.left, Vec::<String>::new(), "{what}: left behind");
        same(&self.names, &expected.names, what);
        same(&self.blobs, &expected.blobs, what);
        same(&self.snapshots, &expected.snapshots, what);
    }
}

fn same<K: Ord + Debug, V: PartialEq + Debug>(there: &BTreeMap<K, V>, expected: &BTreeMap<K, V>, what: &str) {
    for key in there.keys().chain(expected.keys()) {
        assert_eq!(there.get(key), expected.get(key), "{what}: {key:?}");
    }
}

/// Everything that has a name is there in full: blobs by their hash, layers unpacked; and CRI knows
/// no name that containerd does not.
pub(crate) fn assert_only_whole_images(node: &Node, what: &str) {
    let client = node.client();
    // CRI first: what it lists must have been there before.
    let seen = client.cri_list_images().unwrap();
    let records = client.list_images().unwrap();
    for name in seen.iter().flat_map(|image| image.tags.iter().chain(&image.digests)) {
        assert!(records.iter().any(|record| record.name == *name), "{what}: only CRI knows {name}");
    }
    let snapshots = client.list_snapshots("overlayfs").unwrap();
    for record in records {
        let manifest = manifest_of(&client, &record.target, what);
        let config = read(&client, &descriptor(&manifest["config"]), what);
        // A name by the digest of the source's document is no claim that its layers are there as well.
        if !record.name.contains('@') {
            for layer in manifest["layers"].as_array().unwrap() {
                read(&client, &descriptor(layer), what);
            }
        }
        if let Some((_, digest)) = record.name.split_once('@') {
            assert_eq!(digest, record.target.digest.to_string(), "{what}: {}", record.name);
        }
        let config: Value = serde_json::from_slice(&config).unwrap();
        let mut chain = String::new();
        for diff_id in config["rootfs"]["diff_ids"].as_array().unwrap() {
            let diff_id = diff_id.as_str().unwrap();
            chain = match chain.as_str() {
                "" => diff_id.to_owned(),
                parent => Digest::of(format!("{parent} {diff_id}").as_bytes()).to_string(),
            };
            let there = snapshots.iter().any(|snapshot| snapshot.committed && snapshot.name == chain);
            assert!(there, "{what}: {} is named, and layer {chain} is not unpacked", record.name);
        }
    }
}

/// The manifest that a target leads to: an index of the source leads to the one entry that is there.
fn manifest_of(client: &Client, target: &Descriptor, what: &str) -> Value {
    let document: Value = serde_json::from_slice(&read(client, target, what)).unwrap();
    let Some(entries) = document["manifests"].as_array() else { return document };
    let mut entries = entries.iter().map(descriptor);
    let there = entries.find(|entry| client.blob(entry.digest).unwrap().is_some());
    let there = there.unwrap_or_else(|| panic!("{what}: nothing that {} lists is there", target.digest));
    manifest_of(client, &there, what)
}

fn descriptor(value: &Value) -> Descriptor {
    Descriptor {
        media_type: value["mediaType"].as_str().unwrap().into(),
        digest: value["digest"].as_str().unwrap().parse().unwrap(),
        size: value["size"].as_u64().unwrap(),
    }
}

fn read(client: &Client, blob: &Descriptor, what: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reader = client.read_blob(blob, 0);
    let mut reader =
        reader.unwrap_or_else(|error| panic!("{what}: {} is named and not there: {error}", blob.digest));
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), blob.digest, "{what}");
    bytes
}

/// Makes a node as it was when it was new, but for its sandbox image, which it has none of here.
pub(crate) fn empty(node: &Node) {
    let client = node.client();
    let begun = Instant::now();
    loop {
        for image in client.list_images().unwrap() {
            client.delete_image(&image.name, &image.target).unwrap();
        }
        client.collect_garbage().unwrap();
        let there = client.blobs().unwrap().len() + client.list_snapshots("overlayfs").unwrap().len();
        // CRI makes a record of its own when it looks at one that is just being removed.
        if there == 0
            && client.list_images().unwrap().is_empty()
            && client.cri_list_images().unwrap().is_empty()
        {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{there} things stay:\n{}", node.log());
    }
}

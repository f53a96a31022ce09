//! What a node has, as kubelet sees it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::containerd::{ImageRecord, label as known};
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{Digest, ImageConfig, MAX_CONFIG, chain_ids};
use crate::node::{Node, label, manifest};

/// An image of the node: everything that has the same config.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeImage {
    /// The image id: the digest of the config.
    pub id: Digest,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// Names with a digest.
    pub digests: Vec<String>,
    /// Bytes of its blobs, as CRI counts them; zero without CRI.
    pub size: u64,
    /// Whether kubelet leaves it alone.
    pub pinned: bool,
    /// Whether its layers are unpacked for every snapshotter in use.
    pub unpacked: bool,
    /// The medium it came from and the export's sequence; `None` if it came some other way.
    pub from: Option<Origin>,
}

/// Where an image came from.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// The id of the medium.
    pub medium: String,
    /// The sequence of the export.
    pub sequence: String,
}

/// Lists the images of a node: those that CRI lists, or all records where there is no CRI.
pub fn list(node: &Node) -> Result<Vec<NodeImage>> {
    let records = node.client.list_images()?;
    let mut chains = Vec::new();
    for snapshotter in &node.snapshotters {
        let snapshots = node.client.list_snapshots(snapshotter)?.into_iter().filter(|s| s.committed);
        chains.push(snapshots.map(|snapshot| snapshot.name).collect::<BTreeSet<_>>());
    }
    let by_name: HashMap<&str, &ImageRecord> =
        records.iter().map(|record| (record.name.as_str(), record)).collect();
    let mut images: Vec<NodeImage> = if node.cri {
        let listed = node.client.cri_list_images()?.into_iter();
        listed
            .map(|image| NodeImage {
                id: image.id,
                tags: image.tags,
                digests: image.digests,
                size: image.size,
                pinned: image.pinned,
                unpacked: false,
                from: None,
            })
            .collect()
    } else {
        from_records(node, &records)
    };
    for image in &mut images {
        let names = image.tags.iter().chain(&image.digests);
        let records: Vec<&ImageRecord> =
            names.filter_map(|name| by_name.get(name.as_str()).copied()).collect();
        let origin = |record: &&ImageRecord| {
            let (medium, sequence) = (record.labels.get(label::MEDIUM)?, record.labels.get(label::SEQUENCE)?);
            Some(Origin { medium: medium.clone(), sequence: sequence.clone() })
        };
        image.from = records.iter().find_map(origin);
        // A damaged config says nothing of layers; `--check` tells of it.
        if let Some(top) = top_chain(node, image.id) {
            image.unpacked = !chains.is_empty() && chains.iter().all(|there| there.contains(&top));
        }
    }
    images.sort_by(|a, b| (&a.tags, &a.digests).cmp(&(&b.tags, &b.digests)));
    Ok(images)
}

fn from_records(node: &Node, records: &[ImageRecord]) -> Vec<NodeImage> {
    let mut images: BTreeMap<Digest, NodeImage> = BTreeMap::new();
    for record in records.iter().filter(|record| !record.name.starts_with("sha256:")) {
        let Some(id) = config_of(node, record) else { continue };
        let image = images.entry(id).or_insert_with(|| NodeImage {
            id,
            tags: Vec::new(),
            digests: Vec::new(),
            size: 0,
            pinned: false,
            unpacked: false,
            from: None,
        });
        let list = if record.name.contains('@') { &mut image.digests } else { &mut image.tags };
        list.push(record.name.clone());
        image.pinned |= record.labels.contains_key(known::PINNED);
    }
    images.into_values().collect()
}

/// The image id that a record comes down to on this platform.
fn config_of(node: &Node, record: &ImageRecord) -> Option<Digest> {
    Some(manifest(node, &record.target).ok()??.config.digest)
}

fn top_chain(node: &Node, config: Digest) -> Option<String> {
    let info = node.client.blob(config).ok()??;
    let descriptor =
        crate::image::Descriptor { media_type: Default::default(), digest: config, size: info.size };
    let reader = node.client.read_blob(&descriptor, 0).ok()?;
    let bytes = content::read_all(reader, &descriptor, Side::Node, MAX_CONFIG).ok()?;
    let config = ImageConfig::parse(&bytes).ok()?;
    chain_ids(config.diff_ids()).last().map(Digest::to_string)
}

/// The records that `names` mean, as containerd spells them; an error for one that is not there.
pub fn record_names(node: &Node, names: &[crate::image::Reference]) -> Result<Vec<String>> {
    let find = |name: &crate::image::Reference| {
        let text = match name.digest() {
            Some(digest) => name.with_digest(digest).to_string(),
            None => name.to_string(),
        };
        match node.client.image(&text)? {
            Some(record) => Ok(record.name),
            None => Err(Error::not_found(Side::Node, format!("image {text}"))),
        }
    };
    names.iter().map(find).collect()
}

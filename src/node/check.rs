//! Reading everything that images of a node need, to see whether it is as it should be.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::Node;
use super::repair::{Fault, examine};
use super::snapshot::{Place, SnapshotFault, SnapshotFinding, differences, fatal, gone, looking, places};
use crate::containerd::{Client, label};
use crate::content::{self, Verified};
use crate::error::{Error, Result, Side};
use crate::image::{
    Descriptor, Digest, Document, ImageConfig, MAX_CONFIG, MAX_INDEX_DEPTH, MAX_MANIFEST, MediaKind,
    chain_ids, kind,
};
use crate::progress::{Event, Phase, Run, Watched};

/// Blobs that are read at a time.
const READERS: usize = 2;

/// Something wrong with a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFinding {
    /// The blob.
    pub blob: Descriptor,
    /// What is wrong.
    pub fault: Fault,
    /// The names of images that need it.
    pub images: Vec<String>,
}

/// What a check came to.
#[derive(Debug, Default)]
pub struct Checked {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Unpacked layers that were compared with their tars.
    pub layers: usize,
    /// Unpacked layers that could not be: their blobs are not on the node, or their files cannot be seen.
    pub not_compared: usize,
    /// What is wrong with blobs.
    pub findings: Vec<BlobFinding>,
    /// What is wrong with unpacked layers.
    pub snapshots: Vec<SnapshotFinding>,
}

/// What containerd lists, with its labels.
type ListedBlobs = HashMap<Digest, (u64, HashMap<String, String>)>;

/// An unpacked layer to look at.
struct Unpacked {
    snapshotter: String,
    diff_id: Digest,
    chain_id: Digest,
    place: Place,
    images: Vec<String>,
}

/// Hashes everything that the images with these names need, or all images, and compares what is unpacked with the
/// layers; with `content` byte by byte. Each blob is read once.
///
/// A layer whose blob is absent because containerd discarded it after unpacking, or because a name stands for the
/// source's own document of an image that the node has in other encodings, is not a fault.
pub fn check_images(node: &Node, names: &[String], content: bool, run: Run<'_>) -> Result<Checked> {
    let mut listed = ListedBlobs::new();
    node.client.each_blob(|info| {
        listed.insert(info.digest, (info.size, info.labels));
    })?;
    let mut gathered = Gathered::new(&node.client, &listed);
    let records = node.client.list_images()?;
    let chosen = records.iter().filter(|record| names.is_empty() || names.contains(&record.name));
    for record in chosen.filter(|record| !record.name.starts_with("sha256:")) {
        gathered.follow(&record.target, &record.name, 0)?;
    }
    let Gathered { needed, mut images, .. } = gathered;
    images.retain(|_, image| !image.layers.is_empty());
    let (jobs, layers) = looking(&node.client, |client| jobs(node, client, &listed, needed, images))?;
    let mut checked = Checked { blobs: jobs.len(), ..Checked::default() };
    checked.bytes = jobs.iter().map(|job| job.blob.size).sum();
    run.report(Event::Phase { phase: Phase::Verifying, bytes: checked.bytes, items: jobs.len() });
    let (queue, done) = (Mutex::new(jobs.into_iter().collect::<VecDeque<_>>()), Mutex::new(checked));
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(job) = next else { return };
                    if let Err(error) = job.carry_out(&node.client, &listed, content, &done, run) {
                        lock(&failed).get_or_insert(error);
                        lock(&queue).clear();
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    run.report(Event::PhaseEnded { phase: Phase::Verifying });
    let mut checked = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for layer in layers {
        match gone(&layer.place) {
            Some(fault) => checked.snapshots.push(layer.finding(fault)),
            None => checked.not_compared += 1,
        }
    }
    checked.findings.sort_by_key(|finding| finding.blob.digest);
    checked.snapshots.sort_by_key(|finding| (finding.chain_id, finding.snapshotter.clone()));
    Ok(checked)
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A blob to read, and what was unpacked from it.
struct Job {
    blob: Descriptor,
    images: Vec<String>,
    unpacked: Vec<Unpacked>,
}

impl Job {
    fn carry_out(
        self,
        client: &Client,
        listed: &ListedBlobs,
        content: bool,
        done: &Mutex<Checked>,
        run: Run<'_>,
    ) -> Result<()> {
        run.check()?;
        let item = self.blob.digest.to_string();
        let mut is_proven = false;
        for layer in self.unpacked {
            // It is hashed as it is decoded for the comparison.
            let found = match client.read_blob(&self.blob, 0) {
                Ok(reader) if is_proven => {
                    let silent = Run { reporter: &crate::progress::Silent, stop: run.stop };
                    differences(&layer.place, Watched::new(reader, &item, silent), content)
                }
                Ok(reader) => {
                    let reader = Verified::new(Watched::new(reader, &item, run), &self.blob, Side::Node);
                    differences(&layer.place, reader, content)
                }
                Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
                Err(error) => Err(error.into()),
            };
            match found {
                Ok(found) => {
                    is_proven |= matches!(layer.place, Place::Layer(_) | Place::Tree(_));
                    let mut done = lock(done);
                    done.layers += usize::from(layer.place != Place::Unknown);
                    done.not_compared += usize::from(layer.place == Place::Unknown);
                    done.snapshots.extend(found.map(|fault| layer.finding(fault)));
                }
                Err(error) => {
                    fatal(error)?;
                    lock(done).not_compared += 1;
                }
            }
        }
        let fault = match listed.contains_key(&self.blob.digest) {
            true if is_proven => None,
            true => examine(client, &self.blob, run)?,
            false => Some(Fault::Absent),
        };
        if let Some(fault) = fault {
            lock(done).findings.push(BlobFinding { blob: self.blob, fault, images: self.images });
        }
        run.report(Event::Finished { item: &item });
        Ok(())
    }
}

impl Unpacked {
    fn finding(self, fault: SnapshotFault) -> SnapshotFinding {
        let Self { snapshotter, diff_id, chain_id, images, .. } = self;
        SnapshotFinding { snapshotter, diff_id, chain_id, fault, images }
    }
}

/// What is to be read, and the unpacked layers of which no blob is there.
fn jobs(
    node: &Node,
    client: &Client,
    listed: &ListedBlobs,
    needed: BTreeMap<Digest, (Descriptor, Vec<String>)>,
    images: BTreeMap<Digest, GatheredImage>,
) -> Result<(Vec<Job>, Vec<Unpacked>)> {
    let mut by_diff_id: HashMap<Digest, Digest> = HashMap::new();
    for (digest, (_, labels)) in listed {
        let diff_id = labels.get(label::UNCOMPRESSED).and_then(|text| text.parse().ok());
        by_diff_id.extend(diff_id.map(|diff_id: Digest| (diff_id, *digest)));
    }
    let mut unpacked: BTreeMap<(String, Digest), (Unpacked, Option<Digest>)> = BTreeMap::new();
    for (snapshotter, there) in node.chains(|_| true)? {
        for (config, image) in &images {
            let chain = chain_ids(&image.diff_ids);
            let Some(top) = chain.last() else { continue };
            let key = format!("{}.{snapshotter}", label::GC_SNAPSHOT);
            let is_labelled = listed.get(config).is_some_and(|(_, labels)| labels.contains_key(&key));
            if !is_labelled && !there.contains(top) {
                // It was never unpacked; containerd does that when the first container starts.
                continue;
            }
            // One that another image has was looked for already.
            let known = |chain_id: &Digest| unpacked.contains_key(&(snapshotter.clone(), *chain_id));
            let places = match known(top) {
                true => vec![Place::Unknown; chain.len()],
                false if node.snapshot_root.is_none() => vec![Place::Unknown; chain.len()],
                false => places(client, &snapshotter, &chain)?,
            };
            for (at, place) in places.into_iter().enumerate() {
                let (diff_id, chain_id) = (image.diff_ids[at], chain[at]);
                let place = if there.contains(&chain_id) { place } else { Place::Absent };
                let entry = unpacked.entry((snapshotter.clone(), chain_id)).or_insert_with(|| {
                    let listed_here = image.layers.get(at).map(|layer| layer.digest);
                    let blob = listed_here.filter(|blob| listed.contains_key(blob));
                    let blob = blob.or_else(|| by_diff_id.get(&diff_id).copied());
                    let (snapshotter, images) = (snapshotter.clone(), Vec::new());
                    (Unpacked { snapshotter, diff_id, chain_id, place, images }, blob)
                });
                entry.0.images.extend(image.names.iter().cloned());
            }
        }
    }
    let mut jobs: BTreeMap<Digest, Job> = BTreeMap::new();
    for (digest, (blob, images)) in needed {
        jobs.insert(digest, Job { blob, images, unpacked: Vec::new() });
    }
    let mut alone = Vec::new();
    for (mut layer, blob) in unpacked.into_values() {
        layer.images.sort();
        layer.images.dedup();
        match blob.and_then(|blob| jobs.get_mut(&blob)) {
            Some(job) => job.unpacked.push(layer),
            None => alone.push(layer),
        }
    }
    Ok((jobs.into_values().collect(), alone))
}

/// An image that a name comes down to.
#[derive(Default)]
struct GatheredImage {
    names: Vec<String>,
    diff_ids: Vec<Digest>,
    /// As the manifest lists them of which most are there.
    layers: Vec<Descriptor>,
}

/// Everything that names need, as far as it can be read.
struct Gathered<'a> {
    client: &'a Client,
    listed: &'a ListedBlobs,
    /// With the names that need it.
    needed: BTreeMap<Digest, (Descriptor, Vec<String>)>,
    /// By the digest of the config.
    images: BTreeMap<Digest, GatheredImage>,
}

impl<'a> Gathered<'a> {
    fn new(client: &'a Client, listed: &'a ListedBlobs) -> Self {
        Self { client, listed, needed: BTreeMap::new(), images: BTreeMap::new() }
    }

    fn need(&mut self, blob: &Descriptor, name: &str) {
        let entry = self.needed.entry(blob.digest).or_insert_with(|| (blob.clone(), Vec::new()));
        if entry.1.last().is_none_or(|last| last != name) {
            entry.1.push(name.to_owned());
        }
    }

    /// Follows `blob` down. Of an index, what is listed in the content store: images of other platforms are
    /// rightly absent.
    fn follow(&mut self, blob: &Descriptor, name: &str, depth: usize) -> Result<()> {
        self.need(blob, name);
        let Some((_, labels)) = self.listed.get(&blob.digest) else { return Ok(()) };
        if depth > MAX_INDEX_DEPTH
            || !matches!(kind(&blob.media_type), MediaKind::Index | MediaKind::Manifest)
        {
            return Ok(());
        }
        let Some(bytes) = self.read(blob, MAX_MANIFEST)? else { return Ok(()) };
        match Document::parse(&blob.media_type, &bytes) {
            Ok(Document::Index(index)) => {
                let children = index.manifests.iter().map(|child| &child.descriptor);
                for child in children.filter(|child| self.listed.contains_key(&child.digest)) {
                    self.follow(child, name, depth + 1)?;
                }
            }
            Ok(Document::Manifest(manifest)) => {
                let config = manifest.config.clone();
                self.need(&config, name);
                let layers = manifest.descriptors();
                let there: Vec<bool> =
                    layers.iter().map(|layer| self.listed.contains_key(&layer.digest)).collect();
                // A layer that the manifest does not keep is absent by intent.
                let keeps_all = !labels.contains_key(&format!("{}.config", label::GC_CONTENT));
                let prefix = format!("{}.l.", label::GC_CONTENT);
                let kept = labels.iter().filter(|(key, _)| key.starts_with(&prefix));
                let kept: HashSet<&str> = kept.map(|(_, digest)| digest.as_str()).collect();
                for (layer, there) in layers.iter().zip(&there) {
                    if *there || keeps_all || kept.contains(layer.digest.to_string().as_str()) {
                        self.need(layer, name);
                    }
                }
                self.image(&config, layers, name)?;
            }
            Err(_) => {}
        }
        // The proof of an image hangs on labels of ours; what it names need not be there.
        let proof = labels.iter().filter(|(key, _)| key.starts_with("containerd.io/gc.ref.content.pannier."));
        let proof: Vec<Digest> = proof.filter_map(|(_, digest)| digest.parse().ok()).collect();
        for digest in proof {
            if let Some((size, _)) = self.listed.get(&digest) {
                self.need(&Descriptor { media_type: Default::default(), digest, size: *size }, name);
            }
        }
        Ok(())
    }

    fn image(&mut self, config: &Descriptor, layers: Vec<Descriptor>, name: &str) -> Result<()> {
        if !self.images.contains_key(&config.digest) {
            let bytes = match self.listed.contains_key(&config.digest) {
                true => self.read(config, MAX_CONFIG)?,
                false => None,
            };
            let parsed = bytes.and_then(|bytes| ImageConfig::parse(&bytes).ok());
            let diff_ids = parsed.map(|config| config.diff_ids().to_vec()).unwrap_or_default();
            self.images.insert(config.digest, GatheredImage { diff_ids, ..GatheredImage::default() });
        }
        let there = |layers: &[Descriptor]| {
            layers.iter().filter(|layer| self.listed.contains_key(&layer.digest)).count()
        };
        let count = there(&layers);
        let known = self.images.get(&config.digest).map_or(0, |image| there(&image.layers));
        let image = self.images.entry(config.digest).or_default();
        if image.layers.is_empty() || count > known {
            image.layers = layers;
        }
        image.names.push(name.to_owned());
        Ok(())
    }

    /// `None` where something is wrong with it, which is found when it is examined.
    fn read(&self, blob: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>> {
        let read = self
            .client
            .read_blob(blob, 0)
            .and_then(|reader| content::read_all(reader, blob, Side::Node, limit));
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

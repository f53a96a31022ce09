//! What an export has to move: for each layer one verdict, with its reason.

mod space;

use std::collections::{BTreeMap, BTreeSet};

use super::delta::{Base, DeltaStep};
use super::files::{FileStep, FileVerdict};
use crate::image::{Compression, Descriptor, Digest, LayerType, MediaKind, Reference, kind};
use crate::layer::Zstd;
use crate::medium::{Filesystem, Finished};
use crate::record::{Delta, Image, Layer, Record, Referrer};
use crate::recovery;
use crate::source::{Offer, Resolved, ResolvedReferrer};

/// What a medium holds, as far as a plan depends on it.
#[derive(Clone, Debug, Default)]
pub struct MediumState {
    /// The images of the newest record.
    pub images: Vec<Image>,
    /// The layers of the newest record of which at least one encoding is there, with those only.
    pub layers: BTreeMap<Digest, Layer>,
    /// Blobs of the newest record that are there, of those that refer to the images.
    pub blobs: BTreeSet<Digest>,
    /// Layers that a run which was cut off had finished: the note, the blob, the tar's size. Proven.
    pub finished: Vec<(Finished, Descriptor, u64)>,
    /// The deltas of the newest record whose file is there, each with the layer that it leads to.
    pub deltas: Vec<(Layer, Delta)>,
}

/// Where a layer is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The image through which it is asked for.
    pub image: Reference,
    /// The blob.
    pub blob: Descriptor,
}

/// What is to be done about a layer, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the medium has it, committed.
    Present(Layer, Descriptor),
    /// Nothing: an earlier run that was cut off had finished it. The tar's size is given.
    Finished(Descriptor, u64),
    /// It is carried as the source has it.
    Copy(Pick),
    /// It is decoded and encoded anew.
    Recompress(Pick),
    /// It is carried as what differs from a layer that the targets hold, where that is small.
    Delta(DeltaStep),
    /// Nothing: the medium has a delta that leads to it.
    DeltaThere(Layer, Delta),
    /// Nothing: every target holds it.
    LeftOut(Base),
}

/// A layer in the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerStep {
    /// The layer.
    pub diff_id: Digest,
    /// The blobs that manifests list for it and that this step stands for.
    pub listed: Vec<Descriptor>,
    /// What is to be done.
    pub verdict: Verdict,
}

/// A blob of something that refers to an image, carried as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerStep {
    /// Where it is read from.
    pub pick: Pick,
    /// Whether the medium has it, committed.
    pub present: bool,
}

/// What is to be done about an image's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageVerdict {
    /// The medium has the image under this name, with every platform asked for.
    Unchanged,
    /// The name is new on the medium.
    New,
    /// The name stood for another image and moves to this one.
    Moved,
    /// The image is there; a platform, or something that refers to it, is added.
    Extended,
}

/// What an export will do.
#[derive(Clone, Debug)]
pub struct ExportPlan {
    /// The layers, those that take longest first.
    pub layers: Vec<LayerStep>,
    /// Blobs of what refers to the images, each once.
    pub referrers: Vec<ReferrerStep>,
    /// The files beside the images.
    pub files: Vec<FileStep>,
    /// Whether a document that lists the medium's files for other tools is missing.
    pub renews_file_list: bool,
    /// Bytes of files that are copied to the root of the medium; `None` if none is, or they are there.
    pub root: Option<u64>,
    /// What happens to each image's name, in the order of the images.
    pub names: Vec<ImageVerdict>,
    /// Bytes of the manifests, indexes and configs, at most.
    pub documents: u64,
    /// Originals of at least so many bytes are kept on the medium until their layer is recompressed,
    /// so that a run which is cut off need not fetch them again; `None` where none is.
    pub keep_parts_from: Option<u64>,
    /// Bytes of recovery data that will be made, at most.
    pub recovery: u64,
    /// Whether recovery data are wanted that the medium does not have so, or no longer wanted.
    pub renews_recovery: bool,
    /// Whether what the record says of the set's other media changes.
    pub renews_volume: bool,
    /// Whether another lane or time of expiry is asked for than the medium has.
    pub renews_lane: bool,
}

/// A smaller blob is fetched again sooner than it is written twice.
const MIN_PART: u64 = 16 << 20;
/// Room for the commit record, index.json and directory entries.
pub(super) const SLACK: u64 = 4 << 20;
/// Documents of an image, as a rule at most; each takes a whole block of recovery data.
const DOCUMENTS: usize = 8;
/// A commit record and `index.json` of which recovery data hold a copy, as a rule at most.
const MOST_COPIED: u64 = 1 << 20;

impl ExportPlan {
    /// Plans the export of `images` to a medium that holds `held`.
    ///
    /// `compression` is `None` where every original blob is to be kept. Which encoding of a layer is
    /// carried: one that is committed; else an original zstd, the lowest digest of several; else it is
    /// recompressed.
    pub fn new(images: &[Resolved], held: &MediumState, compression: Option<Zstd>) -> Self {
        let mut wanted: BTreeMap<Digest, Vec<(Reference, Descriptor, Vec<Offer>)>> = BTreeMap::new();
        for image in images {
            for layer in image.platforms.iter().flat_map(|platform| &platform.layers) {
                let asked = (image.image.clone(), layer.listed.clone(), layer.offers.clone());
                wanted.entry(layer.diff_id).or_default().push(asked);
            }
        }
        let mut layers: Vec<LayerStep> = wanted
            .into_iter()
            .flat_map(|(diff_id, asked)| steps(diff_id, &asked, held, compression))
            .collect();
        // The longest first, so that no core waits at the end for a large one that began late.
        layers.sort_by_key(|step| (std::cmp::Reverse(step.bytes()), step.diff_id));
        let documents = images.iter().map(documents).sum();
        let names = images.iter().map(|image| name_verdict(image, held)).collect();
        Self {
            layers,
            referrers: referrers(images, held),
            files: Vec::new(),
            renews_file_list: false,
            root: None,
            names,
            documents,
            keep_parts_from: None,
            recovery: 0,
            renews_recovery: false,
            renews_volume: false,
            renews_lane: false,
        }
    }

    /// Has originals kept while they are recompressed, as far as they fit on `filesystem` as well;
    /// `at_once` is how many layers are worked on at a time.
    ///
    /// For a source that is slow to read. It costs writing them, and frees their place afterwards.
    pub fn keep_parts(&mut self, filesystem: &Filesystem, at_once: usize) {
        let kept = |step: &&LayerStep| matches!(step.verdict, Verdict::Recompress(_) | Verdict::Delta(_));
        let recompressed = self.layers.iter().filter(kept);
        let mut sizes: Vec<u64> = recompressed.map(LayerStep::bytes).collect();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        let largest = sizes.first().copied().unwrap_or(0);
        let parts: u64 = sizes.iter().take(at_once).map(|size| filesystem.occupied(*size)).sum();
        let fits = self.bytes_to_write(filesystem) + parts <= filesystem.free
            && filesystem.largest_file.is_none_or(|limit| largest <= limit);
        self.keep_parts_from = fits.then_some(MIN_PART);
    }

    /// Plans recovery data of `percent`, or of what `record`, the newest, says; they are made of all blobs.
    pub fn protect(&mut self, record: Option<&Record>, percent: Option<u32>, filesystem: &Filesystem) {
        let before =
            record.and_then(|record| record.recovery.as_ref()).map_or(0, |recovery| recovery.percent);
        let percent = percent.unwrap_or(before);
        let stale = percent > 0 && !record.is_some_and(Record::recovery_is_current);
        self.renews_recovery = percent != before || stale;
        if percent > 0 && !self.is_nothing() {
            let there = record.into_iter().flat_map(|record| &record.blobs);
            let (count, bytes) = there.fold((0, 0), |(count, bytes), blob| (count + 1, bytes + blob.size));
            let new = self.layers.len()
                + self.referrers.len()
                + self.files.len()
                + DOCUMENTS * (self.names.len() + 1);
            let bytes = bytes + self.bytes_to_write(filesystem);
            self.recovery = recovery::space(count + new as u64, bytes, percent, MOST_COPIED, filesystem);
        }
    }

    /// Whether the medium has all of it already.
    pub fn is_nothing(&self) -> bool {
        self.names.iter().all(|name| *name == ImageVerdict::Unchanged)
            && self.layers.iter().all(|step| {
                matches!(step.verdict, Verdict::Present(..) | Verdict::DeltaThere(..) | Verdict::LeftOut(_))
            })
            && self.referrers.iter().all(|step| step.present)
            && self.files.iter().all(|step| step.present && step.verdict == FileVerdict::Unchanged)
            && !self.renews_recovery
            && !self.renews_file_list
            && !self.renews_volume
            && !self.renews_lane
            && self.root.is_none()
    }

    /// Bytes of layers, of what refers to images, and of files that are read from the source.
    pub fn bytes_to_read(&self) -> u64 {
        let referrers: u64 = self.referrers.iter().map(ReferrerStep::bytes).sum();
        let files: u64 = self.files.iter().map(FileStep::bytes).sum();
        self.layers.iter().map(LayerStep::bytes).sum::<u64>() + referrers + files
    }

    /// Bytes of layers that the medium has already, as they are encoded there.
    pub fn bytes_held(&self) -> u64 {
        let held = |step: &LayerStep| match &step.verdict {
            Verdict::Present(_, blob) | Verdict::Finished(blob, _) => blob.size,
            Verdict::DeltaThere(_, delta) => delta.size,
            _ => 0,
        };
        self.layers.iter().map(held).sum()
    }

    /// Bytes that will be written, at most: no layer is carried in more bytes than its original.
    pub fn bytes_to_write(&self, filesystem: &Filesystem) -> u64 {
        let layers: u64 = self.layers.iter().map(|step| filesystem.occupied(step.bytes())).sum();
        let referrers: u64 = self.referrers.iter().map(|step| filesystem.occupied(step.bytes())).sum();
        let files: u64 = self.files.iter().map(|step| filesystem.occupied(step.bytes())).sum();
        // The blob of the README, and the copies.
        let root = self.root.map_or(0, |bytes| filesystem.occupied(bytes) + 3 * filesystem.block);
        layers + referrers + files + root + self.documents + self.recovery + SLACK
    }

    /// Bytes that the commit record and `index.json` grow by: a generous guess.
    pub fn bytes_of_record(&self) -> u64 {
        (2048 * self.layers.len() + 8192 * self.names.len() + 1024 * self.files.len()) as u64 + (128 << 10)
    }
}

impl LayerStep {
    /// Bytes that are read from the source for it.
    pub fn bytes(&self) -> u64 {
        match &self.verdict {
            Verdict::Copy(pick) | Verdict::Recompress(pick) => pick.blob.size,
            Verdict::Delta(delta) => delta.pick.blob.size,
            Verdict::Present(..) | Verdict::Finished(..) | Verdict::DeltaThere(..) | Verdict::LeftOut(_) => 0,
        }
    }
}

impl ReferrerStep {
    /// Bytes that are read from the source for it.
    pub fn bytes(&self) -> u64 {
        if self.present { 0 } else { self.pick.blob.size }
    }
}

/// The blobs of what refers to the images, each once.
fn referrers(images: &[Resolved], held: &MediumState) -> Vec<ReferrerStep> {
    let mut seen = BTreeSet::new();
    let blobs = images.iter().flat_map(|image| {
        let blobs = image.referrers.iter().flat_map(|referrer| &referrer.blobs);
        blobs.map(move |blob| Pick { image: image.image.clone(), blob: blob.clone() })
    });
    blobs
        .filter(|pick| seen.insert(pick.blob.digest))
        .map(|pick| ReferrerStep { present: held.blobs.contains(&pick.blob.digest), pick })
        .collect()
}

type Asked = (Reference, Descriptor, Vec<Offer>);

/// The steps for one layer: one, unless every original blob is kept and there are several.
fn steps(diff_id: Digest, asked: &[Asked], held: &MediumState, compression: Option<Zstd>) -> Vec<LayerStep> {
    let listed: BTreeSet<&Descriptor> = asked.iter().map(|(_, listed, _)| listed).collect();
    let step = |listed: Vec<Descriptor>, verdict| LayerStep { diff_id, listed, verdict };
    let all = || listed.iter().map(|listed| (*listed).clone()).collect::<Vec<_>>();
    if let Some((layer, encoding)) =
        held.layers.get(&diff_id).and_then(|layer| Some((layer, layer.encodings.first()?)))
    {
        return vec![step(all(), Verdict::Present(layer.clone(), encoding.clone()))];
    }
    let mut offers: Vec<(&Reference, &Offer)> =
        asked.iter().flat_map(|(image, _, offers)| offers.iter().map(move |offer| (image, offer))).collect();
    offers.sort_by_key(|(image, offer)| (offer.blob_rank(), *image));
    let as_it_is = |(image, offer): &(&Reference, &Offer)| {
        let pick = Pick { image: (*image).clone(), blob: offer.descriptor.clone() };
        let before = held
            .finished
            .iter()
            .find(|(note, ..)| note.digest == pick.blob.digest && note.diff_id == diff_id);
        match before {
            Some((_, blob, size)) => Verdict::Finished(blob.clone(), *size),
            None => Verdict::Copy(pick),
        }
    };
    let Some(zstd) = compression else {
        let one = |digest: Digest| {
            let own = offers.iter().find(|(_, offer)| offer.descriptor.digest == digest);
            // Docker and OCI name the type of the same blob differently.
            let same = listed.iter().filter(|listed| listed.digest == digest).map(|listed| (*listed).clone());
            Some(step(same.collect(), as_it_is(own.or(offers.first())?)))
        };
        let digests: BTreeSet<Digest> = listed.iter().map(|listed| listed.digest).collect();
        return digests.into_iter().filter_map(one).collect();
    };
    let Some(best) = offers.first() else { return Vec::new() };
    if best.1.as_it_is || is_zstd(&best.1.descriptor) {
        return vec![step(all(), as_it_is(best))];
    }
    let settings = |note: &Finished| note.level == zstd.level && note.window == zstd.window;
    let before = held.finished.iter().find(|(note, ..)| note.diff_id == diff_id && settings(note));
    let verdict = match before {
        Some((_, blob, size)) => Verdict::Finished(blob.clone(), *size),
        None => Verdict::Recompress(Pick { image: best.0.clone(), blob: best.1.descriptor.clone() }),
    };
    vec![step(all(), verdict)]
}

impl Offer {
    /// The order of preference: what must stay as it is, then zstd, then the lowest digest.
    fn blob_rank(&self) -> (bool, bool, Digest) {
        (!self.as_it_is, !is_zstd(&self.descriptor), self.descriptor.digest)
    }
}

fn is_zstd(blob: &Descriptor) -> bool {
    kind(&blob.media_type) == MediaKind::Layer(LayerType::Tar(Compression::Zstd))
}

fn is_plain(blob: &Descriptor) -> bool {
    kind(&blob.media_type) == MediaKind::Layer(LayerType::Tar(Compression::None))
}

/// Bytes of an image's documents: the originals, and at most as much again for the carried ones.
fn documents(image: &Resolved) -> u64 {
    let indexes: u64 = image.indexes.iter().map(|index| index.size).sum();
    let platforms: u64 =
        image.platforms.iter().map(|platform| 2 * platform.manifest.size + platform.config.size).sum();
    let referrers = image.referrers.iter().flat_map(|referrer| &referrer.documents);
    indexes + platforms + referrers.map(|document| document.size).sum::<u64>()
}

fn name_verdict(image: &Resolved, held: &MediumState) -> ImageVerdict {
    let named = held.images.iter().find(|there| there.names.contains(&image.name));
    let Some(there) = named else { return ImageVerdict::New };
    if there.original.digest != image.original.digest {
        return ImageVerdict::Moved;
    }
    let has = |manifest: Digest| there.platforms.iter().any(|platform| platform.original.digest == manifest);
    let refers = |referrer: &ResolvedReferrer| {
        let same = |known: &Referrer| {
            known.descriptor.digest == referrer.descriptor.digest && known.name == referrer.name
        };
        there.referrers.iter().any(same)
    };
    if image.platforms.iter().all(|platform| has(platform.manifest.digest))
        && image.referrers.iter().all(refers)
    {
        ImageVerdict::Unchanged
    } else {
        ImageVerdict::Extended
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::Error;
    use crate::source::{ResolvedLayer, ResolvedPlatform};

    fn blob(compression: Compression, text: &str) -> Descriptor {
        Descriptor::of(compression.oci_layer_type(), text.as_bytes())
    }

    /// An image of these tars, each with the blob that its manifest lists.
    pub(in crate::plan) fn image(name: &str, layers: &[(&str, Descriptor)]) -> Resolved {
        let document = Descriptor::of("application/vnd.oci.image.manifest.v1+json", name.as_bytes());
        let layers = layers
            .iter()
            .map(|(tar, listed)| ResolvedLayer {
                diff_id: Digest::of(tar.as_bytes()),
                listed: listed.clone(),
                offers: vec![Offer { descriptor: listed.clone(), as_it_is: false }],
            })
            .collect();
        Resolved {
            image: name.parse().unwrap(),
            name: name.parse().unwrap(),
            original: document.clone(),
            indexes: Vec::new(),
            platforms: vec![ResolvedPlatform {
                platform: "linux/amd64".parse().unwrap(),
                manifest: document.clone(),
                config: document,
                config_bytes: None,
                layers,
            }],
            absent: Vec::new(),
            referrers: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn verdicts(images: &[Resolved], held: &MediumState, compression: Option<Zstd>) -> Vec<Verdict> {
        ExportPlan::new(images, held, compression).layers.into_iter().map(|step| step.verdict).collect()
    }

    const ZSTD: Option<Zstd> = Some(Zstd { level: 9, window: 24 });

    #[test]
    fn a_layer_that_two_tools_gzipped_differently_is_carried_once() {
        let images = [
            image("a", &[("t", blob(Compression::Gzip, "1"))]),
            image("b", &[("t", blob(Compression::Gzip, "2"))]),
        ];
        let plan = ExportPlan::new(&images, &MediumState::default(), ZSTD);
        assert_eq!(plan.layers.len(), 1);
        assert_eq!(plan.layers[0].listed.len(), 2);
        assert!(matches!(plan.layers[0].verdict, Verdict::Recompress(_)));
        // Keeping every original blob means keeping both.
        assert_eq!(verdicts(&images, &MediumState::default(), None).len(), 2);
    }

    #[test]
    fn a_blob_that_docker_and_oci_list_under_their_own_types_is_one_blob() {
        let oci = blob(Compression::Gzip, "1");
        let docker = Descriptor {
            media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip".into(),
            ..oci.clone()
        };
        let images = [image("a", &[("t", oci)]), image("b", &[("t", docker)])];
        let plan = ExportPlan::new(&images, &MediumState::default(), None);
        assert_eq!((plan.layers.len(), plan.layers[0].listed.len()), (1, 2));
    }

    #[test]
    fn an_original_zstd_is_taken_before_a_gzip_and_the_lowest_of_several() {
        let zstds = [blob(Compression::Zstd, "1"), blob(Compression::Zstd, "2")];
        let lowest = zstds.iter().min_by_key(|blob| blob.digest).unwrap();
        for order in [[0, 1], [1, 0]] {
            let images = [
                image("g", &[("t", blob(Compression::Gzip, "0"))]),
                image("a", &[("t", zstds[order[0]].clone())]),
                image("b", &[("t", zstds[order[1]].clone())]),
            ];
            let got = verdicts(&images, &MediumState::default(), ZSTD);
            assert!(matches!(&got[..], [Verdict::Copy(pick)] if pick.blob == *lowest), "{got:?}");
        }
    }

    #[test]
    fn what_is_on_the_medium_is_never_made_again() {
        let gzip = blob(Compression::Gzip, "1");
        let images = [image("a", &[("t", gzip.clone())])];
        let diff_id = Digest::of(b"t");
        let layer = Layer {
            diff_id,
            size: 1,
            originals: vec![],
            encodings: vec![blob(Compression::Gzip, "x")],
            elsewhere: vec![],
        };
        let held = MediumState { layers: [(diff_id, layer)].into(), ..MediumState::default() };
        assert!(matches!(&verdicts(&images, &held, ZSTD)[..], [Verdict::Present(..)]));
    }

    #[test]
    fn what_a_cut_off_run_finished_counts_only_if_it_was_made_the_same_way() {
        let images = [image("a", &[("t", blob(Compression::Gzip, "1"))])];
        let done = blob(Compression::Zstd, "done");
        let note = Finished { diff_id: Digest::of(b"t"), digest: done.digest, level: 9, window: 24 };
        let held = MediumState { finished: vec![(note, done.clone(), 1)], ..MediumState::default() };
        assert_eq!(verdicts(&images, &held, ZSTD), [Verdict::Finished(done, 1)]);
        let other = Some(Zstd { level: 3, window: 24 });
        assert!(matches!(&verdicts(&images, &held, other)[..], [Verdict::Recompress(_)]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_figures() {
        let five_gib = Descriptor { size: 5 << 30, ..blob(Compression::Gzip, "1") };
        let plan = ExportPlan::new(&[image("a", &[("t", five_gib)])], &MediumState::default(), ZSTD);
        let fat = Filesystem {
            name: "FAT32".into(),
            free: 64 << 30,
            block: 4096,
            files: None,
            largest_file: Some(u64::from(u32::MAX)),
            read_only: false,
        };
        let path = std::path::Path::new("/stick");
        assert!(
            matches!(plan.require_space(&fat, path), Err(Error::FileTooLarge { size, .. }) if size == 5 << 30)
        );
        let full = Filesystem { largest_file: None, free: 1 << 30, ..fat.clone() };
        assert!(
            matches!(plan.require_space(&full, path), Err(Error::NoSpace { free, .. }) if free == 1 << 30)
        );
        assert!(plan.require_space(&Filesystem { largest_file: None, ..fat }, path).is_ok());
    }
}

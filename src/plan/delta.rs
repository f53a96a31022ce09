//! Which layers are carried as what differs from one that every target holds.
//!
//! Candidates are told by names, places and sizes alone: no tar is read for them. What they are worth
//! the patch itself shows, whose making ends as soon as it is too large.

use std::collections::{BTreeMap, BTreeSet};

use super::{ExportPlan, LayerStep, Pick, Verdict};
use crate::image::{
    Compression, Descriptor, Digest, LayerType, MediaKind, Names, Platform, Reference, chain_ids, kind,
};
use crate::limits::{DELTA as MAX_PATCH, DELTA_TAR as MAX_TAR};
use crate::record::{Delta, Layer};
use crate::source::Resolved;

/// Bases that are tried for a layer, at most.
const MAX_TRIED: usize = 2;
/// A layer of another image is tried only if the sizes of the two differ by less, in percent.
const SIMILAR: u64 = 10;

/// What every target holds, as far as deltas can start from it.
#[derive(Clone, Debug, Default)]
pub struct Bases {
    /// The images, with their layers bottom first.
    pub images: Vec<BaseImage>,
    /// The layers that any of them holds, by diff_id.
    pub layers: BTreeMap<Digest, Base>,
    /// The nodes, or kinds of nodes.
    pub targets: Vec<Target>,
}

/// A node, or nodes of a kind, that a medium is for.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The platforms of images that it runs.
    pub runs: Vec<Platform>,
    /// The layers that it holds.
    pub layers: BTreeSet<Digest>,
    /// The chain_ids that it has unpacked, whether or not it holds the layers.
    pub chains: BTreeSet<Digest>,
}

impl Bases {
    /// Whether all targets that run images of `platform` hold a layer, and there are any.
    fn all_hold(&self, platform: &Platform, layer: &Digest) -> bool {
        let mut targets = self.targets.iter().filter(|target| target.runs.contains(platform)).peekable();
        targets.peek().is_some() && targets.all(|target| target.layers.contains(layer))
    }
}

impl Bases {
    /// Whether all targets that run images of `platform` have a layer where an image wants it, which has `layers` up
    /// to it: as a blob, or unpacked on just these.
    fn all_have(&self, platform: &Platform, layer: &Digest, layers: &[Digest]) -> bool {
        let chain_id = chain_ids(layers).last().copied();
        let has = |target: &&Target| {
            target.layers.contains(layer)
                || chain_id.is_some_and(|chain_id| target.chains.contains(&chain_id))
        };
        let mut targets = self.targets.iter().filter(|target| target.runs.contains(platform)).peekable();
        targets.peek().is_some() && targets.all(|target| has(&target))
    }
}

/// An image that every target holds.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// Its names.
    pub names: Names,
    /// Its platform.
    pub platform: Platform,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
}

/// A layer that every target holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The layer.
    pub diff_id: Digest,
    /// Bytes of the tar, where that is known.
    pub size: Option<u64>,
    /// Blobs that decode to it, wherever they are. The first is the one that its image was published with.
    pub blobs: Vec<Descriptor>,
    /// Where its bytes can be had on this side, the nearest first.
    pub at: Vec<At>,
}

/// Where the bytes of a base can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// On the medium that is written to.
    Medium(Descriptor),
    /// On another medium, by its place among those that were named.
    Other(usize, Descriptor),
    /// At the source, which has the older image still.
    Source(Pick),
}

/// A layer that is to be carried as a delta, if that is worth it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaStep {
    /// Where the layer is read from.
    pub pick: Pick,
    /// What to do where no base gives a small patch: recompress, or else copy.
    pub recompress: bool,
    /// The bases to try, the best first.
    pub bases: Vec<Base>,
    /// Bytes that the patch may have at most.
    pub limit: u64,
}

impl ExportPlan {
    /// Leaves out the layers that every target holds which will want them, of those that would have to
    /// be moved. A node takes the images of its platform alone: what it holds says nothing of others.
    pub fn leave_out(&mut self, images: &[Resolved], held: &Bases) {
        for step in &mut self.layers {
            let moved = matches!(step.verdict, Verdict::Recompress(_) | Verdict::Copy(_));
            let base = held.layers.get(&step.diff_id).filter(|base| moved && !base.blobs.is_empty());
            if let Some(base) = base.filter(|_| is_there(step, images, held)) {
                step.verdict = Verdict::LeftOut(base.clone());
            }
        }
    }

    /// Carries layers as deltas where a base may serve; `there` are the deltas that the medium has, with
    /// their layers.
    pub fn use_deltas(&mut self, images: &[Resolved], bases: &Bases, there: &[(Layer, Delta)]) {
        for step in &mut self.layers {
            if let Some(verdict) = verdict(step, images, bases, there) {
                step.verdict = verdict;
            }
        }
    }
}

/// Whether every target that will want the layer of `step` has it, in each place where it is wanted.
fn is_there(step: &LayerStep, images: &[Resolved], held: &Bases) -> bool {
    images.iter().flat_map(|image| &image.platforms).all(|platform| {
        let layers: Vec<Digest> = platform.layers.iter().map(|layer| layer.diff_id).collect();
        let mut places = (0..layers.len()).filter(|at| layers[*at] == step.diff_id);
        places.all(|at| held.all_have(&platform.platform, &step.diff_id, &layers[..=at]))
    })
}

/// Whether every target that will want the layer of `step` holds `layer`.
fn is_held(layer: &Digest, step: &LayerStep, images: &[Resolved], held: &Bases) -> bool {
    uses(step, images).all(|(_, platform, ..)| held.all_hold(platform, layer))
}

fn verdict(
    step: &LayerStep,
    images: &[Resolved],
    bases: &Bases,
    there: &[(Layer, Delta)],
) -> Option<Verdict> {
    let (pick, recompress) = match &step.verdict {
        Verdict::Recompress(pick) => (pick, true),
        Verdict::Copy(pick) => (pick, false),
        _ => return None,
    };
    let usable = |delta: &&(Layer, Delta)| {
        delta.1.diff_id == step.diff_id && is_held(&delta.1.base, step, images, bases)
    };
    if let Some((layer, delta)) = there.iter().find(usable) {
        return Some(Verdict::DeltaThere(layer.clone(), delta.clone()));
    }
    let limit = limit(&pick.blob);
    let bases = candidates(step, images, bases);
    let step = DeltaStep { pick: pick.clone(), recompress, bases, limit };
    (limit > 0 && !step.bases.is_empty()).then_some(Verdict::Delta(step))
}

/// Bytes that a patch may have at most, going by the blob that the source has.
///
/// Less by a margin than the layer would be carried in whole: recompressing takes at most a third from
/// a gzip, and makes less than an eighth of few plain tars. So nothing is encoded twice to compare.
fn limit(blob: &Descriptor) -> u64 {
    let limit = match kind(&blob.media_type) {
        MediaKind::Layer(LayerType::Tar(Compression::Zstd)) => blob.size / 10 * 9,
        MediaKind::Layer(LayerType::Tar(Compression::Gzip)) => blob.size / 2,
        MediaKind::Layer(LayerType::Tar(Compression::None)) => blob.size / 8,
        _ => 0,
    };
    limit.min(MAX_PATCH)
}

/// The layers to try as bases, the best first: of the same repository the one in the same place, then
/// the others there by how near their sizes are, then layers of like size anywhere.
fn candidates(step: &LayerStep, images: &[Resolved], bases: &Bases) -> Vec<Base> {
    let mut found: Vec<((u8, u64), &Base)> = Vec::new();
    for (image, platform, place, size) in uses(step, images) {
        let same_platform = bases.images.iter().filter(|base| base.platform == *platform);
        for base in same_platform {
            let same = |name: &Reference| {
                [&image.name, &image.image].iter().any(|own| own.repository() == name.repository())
            };
            let same_repository = base.names.iter().any(same);
            for (at, diff_id) in base.layers.iter().enumerate() {
                let Some(layer) = bases.layers.get(diff_id).filter(|layer| serves(layer, step)) else {
                    continue;
                };
                let Some(its_size) = layer.blobs.first().map(|blob| blob.size) else { continue };
                let apart = its_size.abs_diff(size);
                let rank = match () {
                    () if same_repository && at == place => 0,
                    () if same_repository => 1,
                    () if apart * 100 < size.max(its_size) * SIMILAR => 2,
                    () => continue,
                };
                found.push(((rank, apart), layer));
            }
        }
    }
    found.sort_by_key(|(rank, layer)| (*rank, layer.diff_id));
    let mut seen = BTreeSet::new();
    found.retain(|(_, layer)| seen.insert(layer.diff_id) && is_held(&layer.diff_id, step, images, bases));
    found.into_iter().take(MAX_TRIED).map(|(_, layer)| layer.clone()).collect()
}

/// Where the layer is used: image, platform, place from the bottom, bytes at the source.
fn uses<'a>(
    step: &'a LayerStep,
    images: &'a [Resolved],
) -> impl Iterator<Item = (&'a Resolved, &'a Platform, usize, u64)> {
    images.iter().flat_map(move |image| {
        image.platforms.iter().flat_map(move |platform| {
            let layers = platform.layers.iter().enumerate();
            let own = layers.filter(|(_, layer)| layer.diff_id == step.diff_id);
            own.map(move |(place, layer)| (image, &platform.platform, place, layer.listed.size))
        })
    })
}

fn serves(base: &Base, step: &LayerStep) -> bool {
    base.diff_id != step.diff_id && !base.at.is_empty() && base.size.is_none_or(|size| size <= MAX_TAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{MediumState, export};

    fn gzip(text: &str, size: u64) -> Descriptor {
        Descriptor { size, ..Descriptor::of(Compression::Gzip.oci_layer_type(), text.as_bytes()) }
    }

    fn image(name: &str, layers: &[(&str, u64)]) -> Resolved {
        let layers: Vec<_> = layers.iter().map(|(tar, size)| (*tar, gzip(tar, *size))).collect();
        export::tests::image(name, &layers)
    }

    fn bases(images: &[(&str, &[(&str, u64)])]) -> Bases {
        let mut bases = Bases::default();
        for (name, layers) in images {
            let diff_ids = layers.iter().map(|(tar, _)| Digest::of(tar.as_bytes())).collect();
            bases.images.push(BaseImage {
                names: [name.parse().unwrap()].into(),
                platform: "linux/amd64".parse().unwrap(),
                layers: diff_ids,
            });
            for (tar, size) in *layers {
                let diff_id = Digest::of(tar.as_bytes());
                let blob = gzip(tar, *size);
                let base =
                    Base { diff_id, size: None, blobs: vec![blob.clone()], at: vec![At::Medium(blob)] };
                bases.layers.insert(diff_id, base);
            }
        }
        let layers = bases.layers.keys().copied().collect();
        let runs = vec!["linux/amd64".parse().unwrap()];
        bases.targets.push(Target { runs, layers, ..Target::default() });
        bases
    }

    /// The bases that are tried for each layer of `images`.
    fn tried(images: &[Resolved], bases: &Bases) -> BTreeMap<Digest, Vec<Digest>> {
        let zstd = Some(crate::layer::Zstd::default());
        let mut plan = ExportPlan::new(images, &MediumState::default(), zstd);
        plan.use_deltas(images, bases, &[]);
        let bases = |step: &LayerStep| match &step.verdict {
            Verdict::Delta(delta) => delta.bases.iter().map(|base| base.diff_id).collect(),
            _ => Vec::new(),
        };
        plan.layers.iter().map(|step| (step.diff_id, bases(step))).collect()
    }

    fn digests(tars: &[&str]) -> Vec<Digest> {
        tars.iter().map(|tar| Digest::of(tar.as_bytes())).collect()
    }

    #[test]
    fn the_same_place_in_the_same_repository_comes_first_then_the_nearest_size() {
        let held = bases(&[("r/app:1", &[("old base", 700), ("old lib", 90), ("old app", 300)])]);
        let tried = tried(&[image("r/app:2", &[("new base", 710), ("new app", 290)])], &held);
        assert_eq!(tried[&Digest::of(b"new base")], digests(&["old base", "old app"]));
        assert_eq!(tried[&Digest::of(b"new app")], digests(&["old lib", "old app"]));
    }

    #[test]
    fn a_layer_of_another_image_is_tried_only_when_it_is_of_like_size() {
        let held = bases(&[("r/other:1", &[("like", 1050), ("unlike", 1200)])]);
        let tried = tried(&[image("r/app:2", &[("new", 1000)])], &held);
        assert_eq!(tried[&Digest::of(b"new")], digests(&["like"]));
    }

    #[test]
    fn a_base_that_is_nowhere_at_hand_or_for_another_platform_is_not_tried() {
        let mut held = bases(&[("r/app:1", &[("old", 1000)])]);
        held.images[0].platform = "linux/arm64".parse().unwrap();
        let images = [image("r/app:2", &[("new", 1000)])];
        assert_eq!(tried(&images, &held)[&Digest::of(b"new")], []);
        let mut held = bases(&[("r/app:1", &[("old", 1000)])]);
        held.layers.values_mut().for_each(|base| base.at.clear());
        assert_eq!(tried(&images, &held)[&Digest::of(b"new")], []);
    }

    #[test]
    fn a_layer_is_held_by_all_nodes_that_want_it_or_is_carried() {
        let layers = [("x", 1000)];
        let (amd, mut both) = (image("r/app:1", &layers), image("r/app:1", &layers));
        let arm: Platform = "linux/arm64".parse().unwrap();
        let mut other = both.platforms[0].clone();
        other.platform = arm.clone();
        both.platforms.push(other);
        let left_out = |image: &Resolved, held: &Bases| {
            let images = [image.clone()];
            let mut plan = ExportPlan::new(&images, &MediumState::default(), None);
            plan.leave_out(&images, held);
            matches!(plan.layers[0].verdict, Verdict::LeftOut(_))
        };
        let mut held = bases(&[("r/app:1", &layers)]);
        assert!(left_out(&amd, &held));
        assert!(!left_out(&both, &held), "no arm64 node says that it holds it");
        held.targets.push(Target { runs: vec![arm], ..Target::default() });
        assert!(left_out(&amd, &held), "what an arm64 node lacks does not matter to others");
        assert!(!left_out(&both, &held));
        held.targets[1].layers = held.targets[0].layers.clone();
        assert!(left_out(&both, &held));
        held.targets.push(Target { layers: BTreeSet::new(), ..held.targets[0].clone() });
        assert!(!left_out(&amd, &held), "another amd64 node lacks it");
    }

    #[test]
    fn a_layer_that_is_only_unpacked_is_left_out_where_the_same_is_below_it_and_serves_no_delta() {
        let images = [image("r/app:1", &[("base", 1000), ("x", 1000)])];
        let mut held = bases(&[("r/app:1", &[("base", 1000), ("x", 1000)])]);
        let left_out = |held: &Bases| {
            let mut plan = ExportPlan::new(&images, &MediumState::default(), None);
            plan.leave_out(&images, held);
            plan.layers.iter().filter(|step| matches!(step.verdict, Verdict::LeftOut(_))).count()
        };
        held.targets[0].layers.clear();
        assert_eq!(left_out(&held), 0);
        held.targets[0].chains = chain_ids(&digests(&["base", "x"])).into_iter().collect();
        assert_eq!(left_out(&held), 2);
        held.targets[0].chains = chain_ids(&digests(&["other", "x"])).into_iter().collect();
        assert_eq!(left_out(&held), 0);
        held.targets[0].chains = chain_ids(&digests(&["base", "x"])).into_iter().collect();
        assert_eq!(tried(&[image("r/app:2", &[("new", 1000)])], &held)[&Digest::of(b"new")], []);
    }

    #[test]
    fn a_delta_on_the_medium_serves_only_targets_that_hold_its_base() {
        let images = [image("r/app:2", &[("new", 1000)])];
        let diff_id = Digest::of(b"new");
        let layer =
            Layer { diff_id, size: 9, originals: Vec::new(), encodings: Vec::new(), elsewhere: Vec::new() };
        let delta = |base: &str| Delta {
            diff_id,
            base: Digest::of(base.as_bytes()),
            base_size: 9,
            base_blobs: Vec::new(),
            digest: Digest::of(b"patch"),
            size: 1,
            window: 10,
        };
        let held = bases(&[("r/app:1", &[("old", 1000)])]);
        for (base, serves) in [("old", true), ("older", false)] {
            let mut plan = ExportPlan::new(&images, &MediumState::default(), None);
            plan.use_deltas(&images, &held, &[(layer.clone(), delta(base))]);
            let there = matches!(&plan.layers[0].verdict, Verdict::DeltaThere(..));
            assert_eq!(there, serves, "{base}");
        }
    }
}

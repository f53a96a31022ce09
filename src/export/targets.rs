//! What the nodes hold that a medium is for, as far as an export makes use of it.

use std::path::Path;

use time::OffsetDateTime;

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Platform, chain_ids};
use crate::inventory::Inventory;
use crate::medium::Medium;
use crate::plan::import::runs_on;
use crate::plan::{At, Base, BaseImage, Bases, MediumState, Pick, Target};
use crate::record::{Basis, Record};
use crate::source::Platforms;
use crate::trust::{AllowedSigners, INVENTORY_NAMESPACE};

/// What every target holds, and the media it may be read from.
#[derive(Debug, Default)]
pub struct Targets {
    /// What they hold.
    pub bases: Bases,
    /// Media that were named, by the number that [`At::Other`] gives.
    pub media: Vec<Medium>,
    /// Inventories that were given: where there are any, what all of them list is held that are of nodes
    /// which run what is exported, and nothing else.
    pub inventories: Vec<(Inventory, Digest)>,
}

impl Targets {
    /// Adds what nodes hold that imported the medium at `path`: all of it.
    pub fn add_medium(&mut self, path: &Path) -> Result<()> {
        let medium = Medium::open(path)?;
        let record = medium.committed()?;
        let number = self.media.len();
        for image in &record.images {
            for platform in &image.platforms {
                self.bases.images.push(BaseImage {
                    names: image.names.clone(),
                    platform: platform.platform.clone(),
                    layers: platform.diff_ids.clone(),
                });
                self.add_held(&platform.platform, &platform.diff_ids);
                for diff_id in &platform.diff_ids {
                    let from = image.names.iter().next().map(|name| name.with_digest(image.original.digest));
                    let base = base(record, *diff_id, number, from.as_ref());
                    self.bases.layers.entry(*diff_id).or_insert(base);
                }
            }
        }
        self.media.push(medium);
        Ok(())
    }

    /// Nodes that imported a medium took the images of their platform.
    fn add_held(&mut self, platform: &Platform, layers: &[Digest]) {
        let targets = &mut self.bases.targets;
        let known = targets.iter().position(|target| target.runs == [platform.clone()]);
        let at = known.unwrap_or_else(|| {
            targets.push(Target { runs: vec![platform.clone()], ..Target::default() });
            targets.len() - 1
        });
        targets[at].layers.extend(layers);
    }

    /// Adds what a node holds, as the inventory at `path` lists it.
    ///
    /// Errors: the file is none, its node runs nothing of what is exported, or none of `allowed`, where they
    /// are given, signed it by the time `now`.
    pub fn add_inventory(
        &mut self,
        path: &Path,
        platforms: &Platforms,
        allowed: Option<&AllowedSigners>,
        now: OffsetDateTime,
    ) -> Result<()> {
        let (held, digest) = Inventory::read_checked(path, |bytes, signatures| match allowed {
            Some(allowed) => allowed.check_in(INVENTORY_NAMESPACE, bytes, signatures, now).map(drop),
            None => Ok(()),
        })?;
        if let Platforms::Only(platforms) = platforms {
            let runs = runs_on(&held.platform);
            if !platforms.iter().any(|platform| runs.contains(platform)) {
                let exported: Vec<String> = platforms.iter().map(ToString::to_string).collect();
                let reason = format!(
                    "is of a node that runs {}, and the export is for {}; --platform names others",
                    held.platform,
                    exported.join(", ")
                );
                return Err(Error::invalid(Side::Source, format!("inventory {}", path.display()), reason));
            }
        }
        self.inventories.push((held, digest));
        Ok(())
    }

    /// What a medium rests on that is made for them.
    pub(super) fn rest_on(&self) -> Vec<Basis> {
        let inventory = |(held, digest): &(Inventory, Digest)| Basis::Inventory {
            digest: *digest,
            created: held.created.clone(),
            platform: held.platform.clone(),
            host: held.host.clone(),
        };
        if !self.inventories.is_empty() {
            return self.inventories.iter().map(inventory).collect();
        }
        let records = self.media.iter().filter_map(Medium::record);
        let medium = |record: &Record| Basis::Medium { id: record.medium.clone(), sequence: record.sequence };
        records.map(medium).collect()
    }

    /// What the targets hold, and where its bytes can be had.
    fn held(&self) -> Bases {
        if self.inventories.is_empty() {
            return self.bases.clone();
        }
        let mut bases = Bases { images: self.bases.images.clone(), ..Bases::default() };
        for (held, _) in &self.inventories {
            let layers = held.layers.keys().copied().collect();
            let chains = held.only_unpacked.iter().flat_map(|image| chain_ids(&image.layers)).collect();
            bases.targets.push(Target { runs: runs_on(&held.platform), layers, chains });
            let unpacked = held.only_unpacked.iter().flat_map(|image| image.layers.iter().zip(&image.blobs));
            let unpacked = unpacked.map(|(diff_id, blob)| (diff_id, std::slice::from_ref(blob)));
            let whole = held.layers.iter().map(|(diff_id, blobs)| (diff_id, blobs.as_slice()));
            for (diff_id, blobs) in whole.chain(unpacked) {
                let known = || self.bases.layers.get(diff_id).cloned();
                let base = bases.layers.entry(*diff_id).or_insert_with(|| {
                    known().unwrap_or(Base {
                        diff_id: *diff_id,
                        size: None,
                        blobs: Vec::new(),
                        at: Vec::new(),
                    })
                });
                for blob in blobs {
                    if !base.blobs.contains(blob) {
                        base.blobs.push(blob.clone());
                    }
                }
            }
        }
        for (held, _) in &self.inventories {
            for image in &held.images {
                bases.images.push(BaseImage {
                    names: image.names.clone(),
                    platform: held.platform.clone(),
                    layers: image.layers.clone(),
                });
                // The source may have the older image still, under the blobs that it was pulled as.
                let Some(name) = image.names.iter().next() else { continue };
                for diff_id in &image.layers {
                    let Some(base) = bases.layers.get_mut(diff_id) else { continue };
                    let at = |blob: &Descriptor| At::Source(Pick { image: name.clone(), blob: blob.clone() });
                    let picks: Vec<At> =
                        base.blobs.iter().map(at).filter(|at| !base.at.contains(at)).collect();
                    base.at.extend(picks);
                }
            }
        }
        bases
    }

    /// How many images of the nodes have layers that are only unpacked, from which no delta can start.
    pub(super) fn only_unpacked(&self) -> usize {
        self.inventories.iter().map(|(held, _)| held.only_unpacked.len()).sum()
    }

    /// What they hold, with what of it is on the medium that is written to.
    pub(super) fn bases(&self, held: &MediumState) -> Bases {
        let mut bases = self.held();
        for (diff_id, base) in &mut bases.layers {
            if let Some(blob) = held.layers.get(diff_id).and_then(|layer| layer.encodings.first()) {
                base.at.insert(0, At::Medium(blob.clone()));
            }
        }
        bases
    }
}

fn base(record: &Record, diff_id: Digest, number: usize, image: Option<&crate::image::Reference>) -> Base {
    let Some(layer) = record.layer(&diff_id) else {
        return Base { diff_id, size: None, blobs: Vec::new(), at: Vec::new() };
    };
    let there = layer.encodings.iter().map(|blob| At::Other(number, blob.clone()));
    let at_source = image.into_iter().flat_map(|image| {
        layer.originals.iter().map(|blob| At::Source(Pick { image: image.clone(), blob: blob.clone() }))
    });
    let blobs = layer.originals.iter().chain(&layer.encodings).cloned().collect();
    Base { diff_id, size: Some(layer.size), blobs, at: there.chain(at_source).collect() }
}

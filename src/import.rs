//! Puts images from a medium into containerd, sending only what the node lacks.
//!
//! [`prepare`] proves the images' documents, asks the node what it holds and makes the plan; nothing
//! is changed by it. [`carry_out`] takes a lease, sends blobs and has layers unpacked, names each
//! image once all of it is there, and lets go of the lease last. Run again after whatever cut it
//! off, it goes on: nothing is believed that containerd cannot show.

mod prune;
mod space;
mod volumes;
mod wanted;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::error::{Error, Lacking, Result, Side};
use crate::image::{MAX_MANIFEST, Platform, Reference};
use crate::medium::{Medium, Record};
use crate::node::{self, Depth, HeldLease, Naming, Node};
use crate::plan::import::{Choices, ImportPlan, LayerVerdict, Wanted};
use crate::progress::{Event, Phase, Run};

pub use prune::{plan_prune, prune};
pub use space::{Need, Space};
pub use volumes::missing_volumes;
pub use wanted::is_named;

/// How an import is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// The images to import; none means all.
    pub images: Vec<Reference>,
    /// Whether layers are unpacked, not only sent.
    pub unpack: bool,
    /// Whether kubelet is kept from collecting the images.
    pub pin: bool,
    /// Whether everything the node holds of the images is hashed, and replaced where it is damaged.
    pub repair: bool,
    /// Whether the other images are imported when one fails.
    pub keep_going: bool,
}

/// An import, ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done.
    pub plan: ImportPlan,
    /// What it takes up, and what is free.
    pub space: Vec<Space>,
    /// Names of images that cannot be imported, and why. Empty unless the import keeps going.
    pub failed: Vec<(String, Arc<Error>)>,
    medium_id: String,
}

/// What an import did.
#[derive(Debug, Default)]
pub struct Summary {
    /// Images that are on the node now, of those asked for.
    pub images: usize,
    /// Layers that were sent.
    pub layers: usize,
    /// How many of them were made from a layer of the node and a delta.
    pub rebuilt: usize,
    /// Bytes that went over the socket.
    pub sent: u64,
    /// Bytes on the medium of layers that the node had, in whatever encoding.
    pub reused: u64,
    /// Layers that were unpacked.
    pub unpacked: usize,
    /// Names that were made or moved.
    pub named: usize,
    /// Names of images that were not imported, and why.
    pub failed: Vec<(String, Arc<Error>)>,
}

/// Reads what is wanted from the medium, compares it with what the node holds, and plans.
///
/// Nothing is changed. Errors: an image that the medium lacks, or has for other platforms only;
/// damage to documents (collected instead when the import keeps going); not enough space.
pub fn prepare(medium: &Medium, node: &Node, options: &Options, run: Run<'_>) -> Result<Prepared> {
    let record = record_of(medium)?;
    let images = wanted::select(record, &options.images)?;
    wanted::require_platform(&images, &node.platform)?;
    run.report(Event::Phase { phase: Phase::Resolving, bytes: 0, items: images.len() });
    let (mut wanted, mut failed) = (Vec::new(), Vec::new());
    for image in images {
        run.check()?;
        match wanted::read(medium, record, image, &node.platform) {
            Ok(image) => wanted.push(image),
            Err(error) if options.keep_going && !error.is_fatal() => {
                failed.push(wanted::failure(image, error));
            }
            Err(error) => return Err(error),
        }
    }
    let depth = if options.repair { Depth::Hashed } else { Depth::Present };
    // What containerd unpacks, it compares with the diff_id.
    let held = node::inventory(node, &wanted, depth, !options.unpack, run)?;
    run.report(Event::PhaseEnded { phase: Phase::Resolving });
    let choices = Choices { unpack: options.unpack, pin: options.pin };
    let mut originals = HashMap::new();
    for original in wanted.iter().filter_map(|image| image.mixes(&held)) {
        originals.insert(original.digest, medium.read_blob(original, MAX_MANIFEST)?);
    }
    let plan = ImportPlan::new(wanted, &held, choices, &originals)?;
    require_bases(record, &plan)?;
    if let Some(damaged) = plan.sends.iter().find(|send| send.replaces).filter(|_| !options.repair) {
        return Err(Error::Invalid {
            side: Side::Node,
            what: format!("blob {}", damaged.blob.digest),
            reason:
                "containerd lists it, but its file is gone or damaged; `pannier import --repair` replaces it"
                    .into(),
        });
    }
    let space = space::needs(node, &plan)?;
    Ok(Prepared { plan, space, failed, medium_id: record.medium.clone() })
}

/// The images with these names, or all, read and proven for a platform; and the record they are from.
///
/// Errors: an image that the medium lacks, has for other platforms only, or damaged.
pub fn wanted_for<'m>(
    medium: &'m Medium,
    names: &[Reference],
    platform: &Platform,
    run: Run<'_>,
) -> Result<(&'m Record, Vec<Wanted>)> {
    let record = record_of(medium)?;
    let images = wanted::select(record, names)?;
    wanted::require_platform(&images, platform)?;
    let read = |image| run.check().and_then(|()| wanted::read(medium, record, image, platform));
    Ok((record, images.into_iter().map(read).collect::<Result<_>>()?))
}

/// An error unless the node has all that the medium counts on.
fn require_bases(record: &Record, plan: &ImportPlan) -> Result<()> {
    let damaged = plan.no_bases.iter().find_map(|missing| Some((missing, missing.damaged?)));
    if let Some((missing, blob)) = damaged {
        return Err(Error::LackingDamaged { image: missing.image.clone(), layer: missing.diff_id, blob });
    }
    // What was left out is told first: there is no other way to it.
    let first = plan.no_bases.iter().min_by_key(|missing| !missing.bases.is_empty());
    let Some(missing) = first else { return Ok(()) };
    let image = record.images.iter().find(|image| image.original.digest == missing.original);
    Err(Error::Lacking(Box::new(Lacking {
        image: missing.image.clone(),
        layer: *missing.bases.first().unwrap_or(&missing.diff_id),
        rebuilds: (!missing.bases.is_empty()).then_some(missing.diff_id),
        rests_on: image.map(|image| record.rests_on(image).to_vec()).unwrap_or_default(),
        more: plan.no_bases.len() - 1,
    })))
}

/// Carries out a plan.
///
/// At every moment CRI is shown only images all of which is there. What was sent and unpacked before
/// an interruption is held by the lease, which the next import takes over.
pub fn carry_out(
    medium: &Medium,
    node: &Node,
    prepared: Prepared,
    options: &Options,
    run: Run<'_>,
) -> Result<Summary> {
    let Prepared { plan, space, failed, medium_id } = prepared;
    let mut summary = Summary { failed, reused: reused(&plan), ..Summary::default() };
    if plan.is_done() {
        node::drop_orphans(&node.client, node.alone)?;
        summary.images = plan.images.len();
        return Ok(summary);
    }
    space::require(&space)?;
    if options.pin && node.cri && !node.version.honours_pins() {
        run.report(Event::Warning(&format!(
            "containerd {} does not know pins: kubelet may collect the images when its disk fills up",
            node.version.text
        )));
    }
    let lease = HeldLease::take(&node.client.stopping_with(run.stop), node.lease, node.alone)?;
    let naming = Naming { medium: medium_id, pin: options.pin, unpacked: options.unpack };
    let done = match node::carry_out(node, &lease.client, medium, &plan, &naming, options.keep_going, run) {
        Err(error) if is_full(&error) => {
            // kubelet evicts pods from a node whose disk is full: give back what has no name yet. What
            // cannot be given back now is taken over by the next import.
            node::abort_unfinished(&lease.client, &plan);
            let _ = lease.end();
            return Err(on_the_full_disk(error, node));
        }
        other => other?,
    };
    lease.end()?;
    summary.images = done.images.len();
    summary.layers = done.layers;
    summary.rebuilt = done.rebuilt;
    summary.sent = done.sent;
    summary.unpacked = done.unpacked;
    summary.named = done.images.iter().map(|index| plan.images[*index].names_to_make()).sum();
    for (index, error) in done.failed {
        let names: Vec<String> = plan.images[index].wanted.names.iter().map(ToString::to_string).collect();
        summary.failed.push((names.join(" "), error));
    }
    Ok(summary)
}

fn is_full(error: &Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    matches!(error, Error::Io { side: Side::Node, source, .. } if full.contains(&source.kind()))
}

/// What containerd could not write is on the disk of its content, not on its socket.
fn on_the_full_disk(error: Error, node: &Node) -> Error {
    match (error, &node.content_root) {
        (Error::Io { side, path, source, .. }, Some(root)) if path == node.client.address() => {
            Error::Io { side, action: "put images into", path: root.clone(), source }
        }
        (error, _) => error,
    }
}

fn record_of(medium: &Medium) -> Result<&Record> {
    medium.record().ok_or_else(|| {
        let reason = "no export has been committed to it; `pannier export --to` does";
        Error::invalid(Side::Medium, medium.path().display(), reason)
    })
}

/// Bytes of the layers that need not be sent, each once.
fn reused(plan: &ImportPlan) -> u64 {
    let layers = plan.images.iter().flat_map(|image| image.layers.iter().zip(&image.wanted.layers));
    let there = layers.filter(|((_, verdict), _)| {
        !matches!(
            verdict,
            LayerVerdict::Send | LayerVerdict::Replace | LayerVerdict::Rebuild | LayerVerdict::Missing
        )
    });
    let sizes: std::collections::BTreeMap<_, _> =
        there.map(|(_, wanted)| (wanted.diff_id, wanted.carried.size)).collect();
    sizes.values().sum()
}

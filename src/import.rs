//! Puts images from a medium into containerd, sending only what the node lacks.
//!
//! [`prepare`] proves the images' documents, asks the node what it holds and makes the plan; nothing
//! is changed by it. [`carry_out`] takes a lease, sends blobs and has layers unpacked, names each
//! image once all of it is there, and lets go of the lease last. Run again after whatever cut it
//! off, it goes on: nothing is believed that containerd cannot show.

mod adopt;
mod part;
mod prune;
mod space;
mod volumes;
mod wanted;

use std::io;
use std::sync::Arc;

use crate::containerd::Client;
use crate::error::{Error, Result, Side};
use crate::image::{Platform, Reference};
use crate::medium::Medium;
use crate::node::{self, HeldLease, Naming, Node};
use crate::plan::import::{ImportPlan, StuckSnapshot, Totals, WantedImage};
use crate::progress::{Event, Phase, Run, Silent};
use crate::record::{Image, Record};
use crate::trust::Admitted;

pub use adopt::adopt;
use part::{Obstacles, Part};
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
    /// Whether layers are dropped once they are unpacked. What needs them as blobs does not work then: exporting from
    /// the node, serving from it, another snapshotter.
    pub discard_layers: bool,
}

impl Default for Options {
    /// As `pannier import` does it where nothing else is said: everything, unpacked and pinned.
    fn default() -> Self {
        Self {
            images: Vec::new(),
            unpack: true,
            pin: true,
            repair: false,
            keep_going: false,
            discard_layers: false,
        }
    }
}

/// An import, ready to be carried out.
#[derive(Debug)]
pub struct Prepared {
    /// What will be done.
    pub totals: Totals,
    /// What it takes up, and what is free.
    pub space: Vec<Space>,
    /// Damaged snapshots that cannot be made anew, since they are in use.
    pub stuck: Vec<StuckSnapshot>,
    /// Names of images that cannot be imported, and why. Empty unless the import keeps going.
    pub failed: Vec<(String, Arc<Error>)>,
    parts: Vec<Part>,
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
    /// Damaged snapshots that stayed, since they are in use.
    pub stuck: Vec<StuckSnapshot>,
    /// Names of images that were not imported, and why.
    pub failed: Vec<(String, Arc<Error>)>,
}

/// Reads what is wanted from the medium, compares it with what the node holds, and plans. `see` is shown the
/// plan, of a large set in parts.
///
/// Nothing is changed. Errors: an image that the medium lacks, or has for other platforms only;
/// damage to documents (collected instead when the import keeps going); not enough space.
pub fn prepare(
    medium: &Admitted,
    node: &Node,
    options: &Options,
    mut see: impl FnMut(&ImportPlan),
    run: Run<'_>,
) -> Result<Prepared> {
    let record = medium.committed()?;
    let images = wanted::select(record, &options.images)?;
    wanted::require_platform(&images, &node.platform)?;
    run.report(Event::Phase { phase: Phase::Resolving, bytes: 0, items: images.len() });
    let (mut totals, mut obstacles) = (Totals::new(), Obstacles::default());
    let (mut parts, mut failed) = (Vec::new(), Vec::new());
    let mut stuck: Vec<StuckSnapshot> = Vec::new();
    for part in images.chunks(part::IMAGES) {
        let (plan, not_planned) = part::plan(medium, record, part, node, options, run)?;
        failed.extend(not_planned);
        totals.add(&plan);
        obstacles.add(&plan, options);
        stuck.extend(plan.stuck.iter().filter(|one| !stuck.contains(one)).cloned().collect::<Vec<_>>());
        see(&plan);
        parts.push(match plan.is_done() {
            true => Part::Done(plan.images.len()),
            false if images.len() <= part::IMAGES => Part::Planned(Box::new(plan)),
            false => Part::ToDo,
        });
    }
    totals.close();
    run.report(Event::PhaseEnded { phase: Phase::Resolving });
    obstacles.require_none(record)?;
    let space = space::needs(node, &totals)?;
    Ok(Prepared { totals, space, stuck, failed, parts })
}

/// Shows `see` the images with these names, or all, read and proven for a platform; the record they are from.
///
/// Errors: an image that the medium lacks, has for other platforms only, or damaged; those of `see`.
pub fn each_wanted<'m>(
    medium: &'m Admitted,
    names: &[Reference],
    platform: &Platform,
    run: Run<'_>,
    mut see: impl FnMut(WantedImage) -> Result<()>,
) -> Result<&'m Record> {
    let record = medium.committed()?;
    let images = wanted::select(record, names)?;
    wanted::require_platform(&images, platform)?;
    for image in images {
        run.check()?;
        see(wanted::read(medium, record, image, (platform, platform))?)?;
    }
    Ok(record)
}

/// Carries out what was prepared, with the same options.
///
/// At every moment CRI is shown only images all of which is there. What was sent and unpacked before
/// an interruption is held by the lease, which the next import takes over.
pub fn carry_out(
    medium: &Admitted,
    node: &Node,
    prepared: Prepared,
    options: &Options,
    run: Run<'_>,
) -> Result<Summary> {
    let Prepared { totals, space, stuck, failed, parts } = prepared;
    let mut summary = Summary { stuck, failed, reused: totals.reused, ..Summary::default() };
    if totals.is_done {
        node::drop_orphans(&node.client, node.alone)?;
        summary.images = totals.images;
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
    let import = Import { medium, node, client: &lease.client, options, run };
    run.report(Event::Phase { phase: Phase::Sending, bytes: totals.send_bytes, items: totals.sends });
    if totals.unpacks > 0 {
        run.report(Event::Phase {
            phase: Phase::Unpacking,
            bytes: totals.unpack_bytes,
            items: totals.unpacks,
        });
    }
    let result = import.all(parts, &mut summary);
    run.report(Event::PhaseEnded { phase: Phase::Sending });
    if totals.unpacks > 0 {
        run.report(Event::PhaseEnded { phase: Phase::Unpacking });
    }
    match result {
        // kubelet evicts pods from a node whose disk is full: what has no name yet was given back. What
        // cannot be given back now is taken over by the next import.
        Err(error) if is_full(&error) => {
            let _ = lease.end();
            Err(on_the_full_disk(error, node))
        }
        Err(error) => Err(error),
        Ok(()) => lease.end().map(|()| summary),
    }
}

/// An import that is carried out, part by part.
struct Import<'a> {
    medium: &'a Medium,
    node: &'a Node,
    client: &'a Client,
    options: &'a Options,
    run: Run<'a>,
}

impl Import<'_> {
    fn all(&self, parts: Vec<Part>, summary: &mut Summary) -> Result<()> {
        let record = self.medium.committed()?;
        let images = wanted::select(record, &self.options.images)?;
        for (images, part) in images.chunks(part::IMAGES).zip(parts) {
            let plan = match part {
                Part::Done(images) => {
                    summary.images += images;
                    continue;
                }
                Part::Planned(plan) => *plan,
                Part::ToDo => self.plan_again(record, images, summary)?,
            };
            self.one(record, &plan, summary)?;
        }
        Ok(())
    }

    /// The plan of a part, with what the parts before it brought.
    fn plan_again(&self, record: &Record, images: &[&Image], summary: &mut Summary) -> Result<ImportPlan> {
        // What is hashed for it again is neither sent nor unpacked, and what there is to warn of was said.
        let silent = Run { reporter: &Silent, stop: self.run.stop };
        let (plan, failed) = part::plan(self.medium, record, images, self.node, self.options, silent)?;
        let mut obstacles = Obstacles::default();
        obstacles.add(&plan, self.options);
        obstacles.require_none(record)?;
        for (names, error) in failed {
            if !summary.failed.iter().any(|(known, _)| *known == names) {
                summary.failed.push((names, error));
            }
        }
        Ok(plan)
    }

    fn one(&self, record: &Record, plan: &ImportPlan, summary: &mut Summary) -> Result<()> {
        let naming = Naming { medium: record.medium.clone(), pin: self.options.pin };
        let keep_going = self.options.keep_going;
        let done = node::carry_out(self.node, self.client, self.medium, plan, &naming, keep_going, self.run);
        let done = done.inspect_err(|error| {
            if is_full(error) {
                node::abort_unfinished(self.client, plan);
            }
        })?;
        summary.images += done.images.len();
        summary.layers += done.layers;
        summary.rebuilt += done.rebuilt;
        summary.sent += done.sent;
        summary.unpacked += done.unpacked;
        summary.named += done.images.iter().map(|index| plan.images[*index].names_to_make()).sum::<usize>();
        for (index, error) in done.failed {
            let names: Vec<String> =
                plan.images[index].wanted.names.iter().map(ToString::to_string).collect();
            summary.failed.push((names.join(" "), error));
        }
        Ok(())
    }
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

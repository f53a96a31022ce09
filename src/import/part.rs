//! A part of the images of a set: read, compared with the node and planned for together.
//!
//! A plan takes some KiB for each of its images, so that of a large set is made part by part: once to know
//! what it comes to, and each again when its turn comes. By then the node has what the parts before it brought.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Options, wanted};
use crate::error::{Error, Lacking, Result, Side};
use crate::image::{Digest, MAX_MANIFEST};
use crate::medium::Medium;
use crate::node::{self, Depth, Node};
use crate::plan::import::{Choices, ImportPlan, NoBase};
use crate::progress::Run;
use crate::record::{Image, Record};

/// Images of a part. Most sets are one; each part has the node list its blobs once more.
pub(super) const IMAGES: usize = 256;

/// What is known of a part of an import that was prepared.
#[derive(Debug)]
pub(super) enum Part {
    /// The node has all of these images.
    Done(usize),
    /// Something is to be done: this. It is kept where it is all of the set.
    Planned(Box<ImportPlan>),
    /// Something is to be done.
    ToDo,
}

/// Images that could not be planned for: their names, and why.
pub(super) type Failed = Vec<(String, Arc<Error>)>;

/// Reads what is wanted of `images`, asks the node what it holds of that, and plans.
pub(super) fn plan(
    medium: &Medium,
    record: &Record,
    images: &[&Image],
    node: &Node,
    options: &Options,
    run: Run<'_>,
) -> Result<(ImportPlan, Failed)> {
    let (mut wanted, mut failed) = (Vec::with_capacity(images.len()), Vec::new());
    for image in images {
        run.check()?;
        match wanted::read(medium, record, image, (&node.platform, &node.host)) {
            Ok(image) => wanted.push(image),
            Err(error) if options.keep_going && !error.is_fatal() => {
                failed.push(wanted::failure(image, error));
            }
            Err(error) => return Err(error),
        }
    }
    let depth = if options.repair { Depth::Hashed } else { Depth::Present };
    // What containerd unpacks, it compares with the diff_id.
    let mut held = node::held(node, &wanted, depth, !options.unpack, run)?;
    held.takes_unpacked = options.discard_layers;
    let choices = Choices { unpack: options.unpack, pin: options.pin, discard: options.discard_layers };
    let mut originals = HashMap::new();
    for original in wanted.iter().filter_map(|image| image.mixes(&held)) {
        originals.insert(original.digest, medium.read_blob(original, MAX_MANIFEST)?);
    }
    Ok((ImportPlan::new(wanted, &held, choices, &originals)?, failed))
}

/// What keeps an import from being carried out, of one part or of several.
#[derive(Debug, Default)]
pub(super) struct Obstacles {
    no_bases: Vec<NoBase>,
    damaged: Option<Digest>,
}

impl Obstacles {
    /// Adds those of a plan.
    pub(super) fn add(&mut self, plan: &ImportPlan, options: &Options) {
        self.no_bases.extend(plan.no_bases.iter().cloned());
        let mut damaged = plan.sends.iter().filter(|send| send.replaces && !options.repair);
        self.damaged = self.damaged.or_else(|| damaged.next().map(|send| send.blob.digest));
    }

    /// An error unless the node has all that the medium counts on, undamaged.
    pub(super) fn require_none(&self, record: &Record) -> Result<()> {
        let damaged = self.no_bases.iter().find_map(|missing| Some((missing, missing.damaged?)));
        if let Some((missing, blob)) = damaged {
            return Err(Error::LackingDamaged { image: missing.image.clone(), layer: missing.diff_id, blob });
        }
        // What was left out is told first: there is no other way to it.
        if let Some(missing) = self.no_bases.iter().min_by_key(|missing| !missing.bases.is_empty()) {
            let image = record.images.iter().find(|image| image.original.digest == missing.original);
            return Err(Error::Lacking(Box::new(Lacking {
                image: missing.image.clone(),
                layer: *missing.bases.first().unwrap_or(&missing.diff_id),
                rebuilds: (!missing.bases.is_empty()).then_some(missing.diff_id),
                rests_on: image.map(|image| record.rests_on(image).to_vec()).unwrap_or_default(),
                more: self.no_bases.len() - 1,
            })));
        }
        match self.damaged {
            None => Ok(()),
            Some(damaged) => Err(Error::Invalid {
                side: Side::Node,
                what: format!("blob {damaged}"),
                reason: "containerd lists it, but its file is gone or damaged; `pannier import --repair` replaces it".into(),
            }),
        }
    }
}

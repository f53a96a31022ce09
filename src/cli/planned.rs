//! The plan of an import as a dry run prints it, taken down part by part: the plan itself takes far more.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::json;

use super::output::Output;
use super::{pruned, text};
use crate::error::Result;
use crate::image::Digest;
use crate::import::Prepared;
use crate::node::Node;
use crate::plan::import::prune::PrunePlan;
use crate::plan::import::{ImagePlan, ImportPlan, LayerVerdict, Lists, NameVerdict};

/// What was taken down so far.
#[derive(Debug, Default)]
pub(super) struct Planned {
    /// The names that will stand for something else.
    pub(super) moving: HashSet<String>,
    lines: String,
    images: Vec<Image>,
}

/// An image, for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    id: Digest,
    platform: String,
    original: Digest,
    target: Digest,
    lists: &'static str,
    names: Vec<Name>,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
struct Name {
    name: String,
    target: Digest,
    verdict: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    diff_id: Digest,
    blob: Digest,
    size: u64,
    verdict: &'static str,
}

impl Planned {
    /// Takes down the plan of a part, as lines or for programs.
    pub(super) fn add(&mut self, plan: &ImportPlan, json: bool) {
        for image in &plan.images {
            let moves = |verdict: &NameVerdict| matches!(verdict, NameVerdict::Move(_));
            let moving = image.names.iter().filter(|planned| moves(&planned.verdict));
            self.moving.extend(moving.map(|planned| planned.name.clone()));
            match json {
                true => self.images.push(Image::of(image)),
                false => self.add_lines(image),
            }
        }
    }

    fn add_lines(&mut self, image: &ImagePlan) {
        for planned in &image.names {
            self.lines.push_str(&format!("{:9}  {}\n", name_verdict(&planned.verdict), planned.name));
        }
        self.lines.push_str(&format!("{:9}  manifest {}\n", lists(&image.lists), image.target.digest));
        for (layer, verdict) in &image.layers {
            self.lines.push_str(&format!(
                "{:9}  layer {} {}\n",
                layer_verdict(*verdict),
                layer.digest,
                text::size(layer.size)
            ));
        }
    }

    /// Prints it.
    pub(super) fn describe(
        mut self,
        prepared: &Prepared,
        pruning: Option<&PrunePlan>,
        node: &Node,
        output: &Output,
    ) -> Result<()> {
        if !output.json() {
            self.lines.push_str(&pruning.map(pruned::lines).unwrap_or_default());
            output.data(&self.lines)?;
            announce(prepared, node, output);
            output.say("Nothing was changed.");
            return Ok(());
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            platform: String,
            snapshotters: &'a [String],
            images: &'a [Image],
            bytes_to_send: u64,
            layers_to_send: usize,
            layers_to_unpack: usize,
            bytes_to_unpack: u64,
            space: Vec<serde_json::Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            prune: Option<serde_json::Value>,
        }
        let space = prepared
            .space
            .iter()
            .map(|space| json!({ "path": space.path, "needed": space.need.total(), "free": space.free }));
        let totals = &prepared.totals;
        output.document(&Document {
            platform: node.platform.to_string(),
            snapshotters: &node.snapshotters,
            images: &self.images,
            bytes_to_send: totals.send_bytes,
            layers_to_send: totals.layers,
            layers_to_unpack: totals.unpacks,
            bytes_to_unpack: totals.unpack_bytes,
            space: space.collect(),
            prune: pruning.map(pruned::json),
        })
    }
}

impl Image {
    fn of(image: &ImagePlan) -> Self {
        let names = image.names.iter();
        let names = names.map(|planned| Name {
            name: planned.name.clone(),
            target: planned.target.digest,
            verdict: name_verdict(&planned.verdict),
        });
        let layers = image.layers.iter().zip(&image.wanted.layers).map(|((layer, verdict), wanted)| Layer {
            diff_id: wanted.diff_id,
            blob: layer.digest,
            size: layer.size,
            verdict: layer_verdict(*verdict),
        });
        Self {
            id: image.wanted.config.digest,
            platform: image.wanted.platform.to_string(),
            original: image.wanted.original.digest,
            target: image.target.digest,
            lists: lists(&image.lists),
            names: names.collect(),
            layers: layers.collect(),
        }
    }
}

fn name_verdict(verdict: &NameVerdict) -> &'static str {
    match verdict {
        NameVerdict::Present => "present",
        NameVerdict::Pin => "pin",
        NameVerdict::Add => "add",
        NameVerdict::Correct => "correct",
        NameVerdict::Move(_) => "move",
    }
}

fn layer_verdict(verdict: LayerVerdict) -> &'static str {
    match verdict {
        LayerVerdict::Present => "present",
        LayerVerdict::HeldOtherwise => "held",
        LayerVerdict::Discarded => "unpacked",
        LayerVerdict::Send => "send",
        LayerVerdict::Replace => "replace",
        LayerVerdict::Rebuild => "rebuild",
        LayerVerdict::Missing => "missing",
    }
}

fn lists(lists: &Lists) -> &'static str {
    match lists {
        Lists::Kept => "kept",
        Lists::Original => "original",
        Lists::Carried => "carried",
        Lists::Mixed(_) => "mixed",
    }
}

/// Says before the first byte what will be done.
pub(super) fn announce(prepared: &Prepared, node: &Node, output: &Output) {
    let totals = &prepared.totals;
    if totals.is_done {
        return;
    }
    output.say(format_args!(
        "{}: {} to send in {}, {} to unpack ({}).",
        text::count(totals.images, "image"),
        text::size(totals.send_bytes),
        text::count(totals.layers, "layer"),
        text::count(totals.unpacks, "layer"),
        text::size(totals.unpack_bytes),
    ));
    for space in &prepared.space {
        output.say(format_args!(
            "{} will be taken up on {}, {} are free.",
            text::size(space.need.total()),
            space.path.display(),
            text::size(space.free),
        ));
        if node.cri && space.kubelet_collects() {
            output.complain(format_args!(
                "warning: {} will be more than 85 % full, where kubelet begins to remove images that are not pinned or in use",
                space.path.display(),
            ));
        }
    }
    if prepared.space.is_empty() {
        output.say("How much is free there cannot be seen from here.");
    }
}

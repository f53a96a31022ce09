//! Which images are asked for: by name, by lists, by Kubernetes manifests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::habits;
use super::output::Output;
use crate::error::{Error, Result};
use crate::image::Reference;
use crate::lists::kubernetes::{self, Choice};
use crate::lists::references::{self, Names, Reading};
use crate::lists::{self, Named, Pattern, Pull, TagFilter};
use crate::source::Source;

#[derive(Debug, clap::Args)]
pub(super) struct WantedArgs {
    /// Images to export, such as nginx:1.22 or ghcr.io/canonical/cilium@sha256:...
    #[arg(value_name = "IMAGE")]
    pub(super) images: Vec<String>,
    /// A file with one reference a line, - for standard input
    ///
    /// A file with one reference a line, - for standard input, or a snap with an images.txt in it
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub(super) list: Vec<PathBuf>,
    /// Kubernetes manifests: a file, a folder, or -
    ///
    /// Kubernetes manifests: a file, a folder, or - for standard input; every image in them is taken
    #[arg(long, value_name = "PATH", help_heading = "What")]
    pub(super) manifests: Vec<PathBuf>,
    /// Take every field named image in custom resources as well
    #[arg(long, requires = "manifests", help_heading = "What", hide_short_help = true)]
    any_image_field: bool,
    /// Take every full reference in manifests, in whatever text it stands: arguments, environment, settings
    #[arg(long, requires = "manifests", help_heading = "What", hide_short_help = true)]
    any_string: bool,
    /// Leave out images that fit PATTERN, such as auto, quay.io/team/* or *:latest; may be given several times
    #[arg(long, value_name = "PATTERN", help_heading = "What", hide_short_help = true)]
    pub(super) exclude: Vec<Pattern>,
    /// Which tags an IMAGE or a line of a list without tag and digest stands for: semver >=1.29 <1.31, or a pattern
    /// such as 1.29.*, which can also stand in place of a tag: nginx:1.29.*
    #[arg(long, value_name = "TAGS", help_heading = "What", hide_short_help = true)]
    pub(super) tags: Option<TagFilter>,
    /// Print the references that are asked for, those of tags too, and do nothing
    #[arg(long, conflicts_with = "all", help_heading = "What", hide_short_help = true)]
    pub(super) list_only: bool,
}

impl WantedArgs {
    /// Everything that is named, with warnings for what will not start offline.
    ///
    /// `apart` says which words on the command line are no references, but bare tags of a layout.
    pub(super) fn named(&self, apart: impl Fn(&str) -> bool, output: &Output) -> Result<Names> {
        let stdin = |paths: &[PathBuf]| paths.iter().filter(|path| path.as_os_str() == "-").count();
        if stdin(&self.list) + stdin(&self.manifests) > 1 {
            return Err(Error::Usage("standard input (-) can be read only once".into()));
        }
        let mut names = Names::default();
        for image in self.images.iter().filter(|image| !apart(image)) {
            if self.exclude.iter().any(|pattern| pattern.fits_text(image)) {
                continue;
            }
            let image = habits::without_transport(image);
            let added = names.add(image, "named on the command line", self.tags.as_ref());
            added.map_err(|error| Error::Usage(format!("{error}")))?;
        }
        let reading = Reading { exclude: self.exclude.clone(), tags: self.tags.clone() };
        for list in &self.list {
            let listed = references::read(list, &reading)?;
            names.images.extend(listed.images);
            names.tags.extend(listed.tags);
        }
        let choice = Choice {
            any_image_field: self.any_image_field,
            any_string: self.any_string,
            exclude: self.exclude.clone(),
        };
        for path in &self.manifests {
            let found = kubernetes::scan(path, &choice)?;
            for warning in found.warnings {
                output.complain(format_args!("warning: {warning}"));
            }
            names.images.extend(found.images);
        }
        for warning in lists::warnings(&names.images) {
            output.complain(format_args!("warning: {warning}"));
        }
        Ok(names)
    }

    /// Adds the images that tags asked for together stand for at the source.
    pub(super) fn look_up(&self, names: Names, source: &dyn Source) -> Result<Vec<Named>> {
        let mut named = names.images;
        for several in &names.tags {
            let tags = source.tags(&several.repository)?;
            let images = several.images(&tags)?.into_iter();
            let images = images.filter(|image| !self.exclude.iter().any(|pattern| pattern.fits(image)));
            named.extend(images.map(|image| Named {
                image,
                place: several.place.clone(),
                pull: Pull::Unsaid,
            }));
        }
        Ok(named)
    }
}

/// Prints each reference once, in the order in which they are first named.
pub(super) fn print(named: &[Named], output: &Output) -> Result<()> {
    let mut order: Vec<&Reference> = Vec::new();
    let mut places: BTreeMap<&Reference, Vec<&str>> = BTreeMap::new();
    for named in named {
        let places = places.entry(&named.image).or_default();
        if places.is_empty() {
            order.push(&named.image);
        }
        places.push(&named.place);
    }
    if output.json() {
        let images: Vec<_> =
            order.iter().map(|image| json!({ "image": image, "places": places[image] })).collect();
        return output.document(&json!({ "images": images }));
    }
    output.data(&order.iter().map(|image| format!("{image}\n")).collect::<String>())
}

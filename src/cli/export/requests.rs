//! Which images an export is asked for, and under which names it carries them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;

use super::Args;
use crate::error::{Error, Result};
use crate::export::Targets;
use crate::image::Reference;
use crate::source::{self, ImageRequest, Platforms, Source, SourceSpec};
use crate::trust::AllowedSigners;

/// What is asked for: by name, by lists, or all of it; under the names it is to be carried under.
pub(super) fn wanted(args: &Args, named: Vec<Reference>, source: &dyn Source) -> Result<Vec<ImageRequest>> {
    let unnamed = args.rename_to.as_ref();
    let mut tagged = Vec::new();
    let mut named = named;
    for word in args.wanted.images.iter().filter(|word| args.may_be_tag(word)) {
        let by_name = word.parse::<Reference>();
        // A name counts before a tag.
        if let Ok(image) = &by_name
            && source.resolve(image).is_ok()
        {
            named.push(image.clone());
            continue;
        }
        match source::tagged(source, word, unnamed)? {
            Some(image) => tagged.push(image),
            None => named.push(by_name.map_err(|error| Error::Usage(error.to_string()))?),
        }
    }
    let mut wanted = match unnamed {
        _ if args.all => {
            let mut wanted = everything(source, unnamed)?;
            let excluded = |image: &ImageRequest| args.wanted.exclude.iter().any(|p| p.fits(&image.name));
            wanted.retain(|image| !excluded(image));
            wanted
        }
        Some(_) if tagged.len() == 1 && named.is_empty() => tagged,
        Some(_) if !tagged.is_empty() => renamed(Vec::new(), unnamed)?,
        Some(name) if named.is_empty() && !matches!(args.from, SourceSpec::Registry) => {
            vec![source::only(source, name.clone())?]
        }
        _ => renamed(named, unnamed)?,
    };
    for wanted in &mut wanted {
        for rename in &args.rename {
            wanted.name = wanted.name.rename(&rename.from, &rename.to).unwrap_or_else(|| wanted.name.clone());
        }
        // Whether the tag beside a digest is a true name, the source tells.
        if wanted.image.tag().is_none() || wanted.image.digest().is_none() {
            wanted.name = wanted.name.without_redundant_digest();
        }
    }
    let mut seen = BTreeSet::new();
    wanted.retain(|wanted| seen.insert((wanted.image.clone(), wanted.name.clone())));
    let mut names = BTreeSet::new();
    match wanted.iter().find(|wanted| !names.insert(wanted.name.clone())) {
        Some(twice) => Err(Error::Usage(format!("two different images would be carried as {}", twice.name))),
        None => Ok(wanted),
    }
}

fn everything(source: &dyn Source, unnamed: Option<&Reference>) -> Result<Vec<ImageRequest>> {
    let wanted = source::everything(source, unnamed)?;
    match unnamed {
        // A name that is silently not given would be missed on the node only.
        Some(name) if wanted.iter().all(|wanted| wanted.name != *name) => Err(Error::Usage(format!(
            "every image there has a name, so none becomes {name}: name one instead of --all, or use --rename FROM=TO"
        ))),
        _ => Ok(wanted),
    }
}

fn renamed(images: Vec<Reference>, rename_to: Option<&Reference>) -> Result<Vec<ImageRequest>> {
    if rename_to.is_some() && images.len() != 1 {
        return Err(Error::Usage("--as names one image; with several use --rename FROM=TO".into()));
    }
    let wanted = |image: Reference| {
        let name = rename_to.cloned().unwrap_or_else(|| image.clone());
        ImageRequest { image, name, descriptor: None }
    };
    Ok(images.into_iter().map(wanted).collect())
}

/// What the nodes have, by `--have`.
pub(super) fn targets(args: &Args, platforms: &Platforms) -> Result<Option<Arc<Targets>>> {
    if args.have.is_empty() {
        return Ok(None);
    }
    let mut targets = Targets::default();
    let allowed = args.inventory_signers.as_deref().map(AllowedSigners::read).transpose()?;
    for have in &args.have {
        match have.strip_prefix("medium:") {
            Some(path) => targets.add_medium(Path::new(path))?,
            None => targets.add_inventory(
                Path::new(have),
                platforms,
                allowed.as_ref(),
                OffsetDateTime::now_utc(),
            )?,
        }
    }
    Ok(Some(Arc::new(targets)))
}

//! Asks the source about every image that is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Options, Referrers};
use crate::error::{Error, Result};
use crate::image::{Digest, Reference};
use crate::progress::{Event, Phase, Run};
use crate::source::{ImageRequest, Resolved, Source, resolve};

/// Images of a remote source that are asked about at a time.
const RESOLVED_AT_ONCE: usize = 8;

/// Names of images, and why they cannot be carried.
type Failed = Vec<(String, Arc<Error>)>;

/// The images, and the names of those that could not be resolved, with the reason; those end the export
/// unless it keeps going.
pub(super) fn wanted(
    source: &dyn Source,
    wanted: &[ImageRequest],
    options: &Options,
    run: Run<'_>,
) -> Result<(Vec<Resolved>, Failed)> {
    let mut images = Vec::new();
    let mut failed = Vec::new();
    run.report(Event::Phase { phase: Phase::Resolving, bytes: 0, items: wanted.len() });
    for (wanted, resolved) in wanted.iter().zip(resolve_all(source, wanted, options, run)) {
        match resolved {
            Ok(image) => {
                image.warnings.iter().for_each(|text| run.report(Event::Warning(text)));
                images.push(image);
            }
            Err(error) if options.keep_going => failed.push((wanted.name.to_string(), error.into())),
            Err(error) => return Err(error),
        }
    }
    run.report(Event::PhaseEnded { phase: Phase::Resolving });
    run.check()?;
    Ok((without_repeats(images)?, failed))
}

/// Each name once: `repo:tag` and `repo:tag@digest` may turn out to be one image.
fn without_repeats(images: Vec<Resolved>) -> Result<Vec<Resolved>> {
    let mut named: BTreeMap<Reference, Digest> = BTreeMap::new();
    let mut kept = Vec::with_capacity(images.len());
    for image in images {
        match named.insert(image.name.clone(), image.original.digest) {
            None => kept.push(image),
            Some(other) if other == image.original.digest => {}
            Some(other) => {
                let (name, own) = (&image.name, image.original.digest);
                let text = format!("two different images would be carried as {name}: {other} and {own}");
                return Err(Error::Usage(text));
            }
        }
    }
    Ok(kept)
}

/// Resolves every image, several at a time where each question takes its time on the way.
///
/// In the order of `wanted`; where one fails and the export does not keep going, it ends with that one.
fn resolve_all(
    source: &dyn Source,
    wanted: &[ImageRequest],
    options: &Options,
    run: Run<'_>,
) -> Vec<Result<Resolved>> {
    let resolve = |wanted: &ImageRequest| {
        run.check()?;
        let image = resolve(source, wanted, &options.platforms)?;
        let image = with_referrers(source, image, options)?;
        run.report(Event::Finished { item: &wanted.name.to_string() });
        Ok(image)
    };
    let mut resolved = Vec::new();
    for some in wanted.chunks(if source.is_remote() { RESOLVED_AT_ONCE } else { 1 }) {
        let answers: Vec<Result<Resolved>> = match some {
            [one] => vec![resolve(one)],
            _ => std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|wanted| scope.spawn(|| resolve(wanted))).collect();
                let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
                joined.map(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            }),
        };
        let ended = !options.keep_going && answers.iter().any(Result::is_err);
        resolved.extend(answers);
        if ended {
            break;
        }
    }
    resolved
}

/// Adds what refers to an image. What cannot be had of it is no reason to leave the image, unless
/// that was asked for.
fn with_referrers(source: &dyn Source, mut image: Resolved, options: &Options) -> Result<Resolved> {
    if options.referrers == Referrers::Left {
        return Ok(image);
    }
    for referrer in crate::source::referrers(source, &image) {
        match referrer {
            Ok(referrer) => image.referrers.push(referrer),
            Err(error) if options.referrers == Referrers::Required || error.is_fatal() => {
                return Err(error);
            }
            Err(error) => {
                let text = left_out(&image.name, &error);
                if !image.warnings.contains(&text) {
                    image.warnings.push(text);
                }
            }
        }
    }
    Ok(image)
}

/// What is said of a signature or the like that an image is carried without.
pub(super) fn left_out(image: &Reference, error: &Error) -> String {
    let error = error.with_cause();
    format!("{image}: carried without a signature or the like: {error} (--require-referrers fails then)")
}

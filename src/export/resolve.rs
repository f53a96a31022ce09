//! Asks the source about every image that is wanted.

use std::sync::Arc;

use super::Options;
use crate::error::{Error, Result};
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
            Ok(image) => images.push(image),
            Err(error) if options.keep_going => failed.push((wanted.name.to_string(), error.into())),
            Err(error) => return Err(error),
        }
    }
    run.report(Event::PhaseEnded { phase: Phase::Resolving });
    run.check()?;
    Ok((images, failed))
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
        let image = with_referrers(source, image, options, run)?;
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

/// Adds what refers to an image. A registry that does not want to tell is no reason to carry nothing.
fn with_referrers(
    source: &dyn Source,
    mut image: Resolved,
    options: &Options,
    run: Run<'_>,
) -> Result<Resolved> {
    if options.referrers {
        match crate::source::referrers(source, &image) {
            Ok(referrers) => image.referrers = referrers,
            Err(error @ Error::Refused { .. }) => {
                let text = format!("{}: carried without signatures and the like: {error}", image.name);
                run.report(Event::Warning(&text));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(image)
}

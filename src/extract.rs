//! Gets files that a medium carries beside its images onto this machine.

use std::collections::BTreeMap;

use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::medium::{Destination, Filesystem, Medium, Occupant};
use crate::progress::{Event, Phase, Run, Watched};
use crate::record::{CarriedFile, FileName};
use crate::trust::Admitted;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// It was written.
    Written,
    /// It was there already, with these bytes.
    Unchanged,
    /// It took the place of something else.
    Replaced,
}

/// The files with these names; all of them where none is named.
///
/// An error for a name that the medium does not have, or a medium without a commit.
pub fn select<'m>(medium: &'m Medium, names: &[FileName]) -> Result<Vec<&'m CarriedFile>> {
    let record = medium.committed()?;
    if names.is_empty() {
        return Ok(record.files.iter().collect());
    }
    let mut files: BTreeMap<&FileName, &CarriedFile> = BTreeMap::new();
    for name in names {
        let file = record.file(name).ok_or_else(|| {
            let path = medium.path().display();
            Error::not_found(Side::Medium, format!("file {name} on {path}"))
        })?;
        files.insert(&file.name, file);
    }
    Ok(files.into_values().collect())
}

/// Writes `files` of a medium into `to`, each proven before it gets its name.
///
/// Nothing is written if one of them would take the place of something else, unless `force` says that it
/// may. Returns what became of each, in their order. Errors: damage on the medium, no space.
pub fn extract(
    medium: &Admitted,
    files: &[&CarriedFile],
    to: &Destination,
    force: bool,
    run: Run<'_>,
) -> Result<Vec<Extracted>> {
    let mut occupants = Vec::new();
    for file in files {
        run.check()?;
        let occupant = to.occupant(file)?;
        if occupant == Occupant::Other && !force {
            let path = to.path().join(file.name.as_str());
            let reason = "something else is there; --force puts the medium's file in its place";
            return Err(Error::invalid(Side::Node, path.display(), reason));
        }
        occupants.push(occupant);
    }
    let missing = || files.iter().zip(&occupants).filter(|(_, occupant)| **occupant != Occupant::Same);
    let needed: u64 = missing().map(|(file, _)| file.size).sum();
    let free = Filesystem::of(to.path())?.free;
    if needed > free {
        return Err(Error::NoSpace { side: Side::Node, path: to.path().to_owned(), needed, free });
    }
    run.report(Event::Phase { phase: Phase::Carrying, bytes: needed, items: missing().count() });
    let mut extracted = Vec::new();
    for (file, occupant) in files.iter().zip(&occupants) {
        extracted.push(match occupant {
            Occupant::Same => Extracted::Unchanged,
            Occupant::None | Occupant::Other => {
                write(medium, file, to, run)?;
                if *occupant == Occupant::None { Extracted::Written } else { Extracted::Replaced }
            }
        });
    }
    run.report(Event::PhaseEnded { phase: Phase::Carrying });
    Ok(extracted)
}

fn write(medium: &Medium, file: &CarriedFile, to: &Destination, run: Run<'_>) -> Result<()> {
    let item = file.name.as_str();
    run.report(Event::Started { item, bytes: file.size });
    let bytes = medium.open_blob(&file.blob())?;
    to.write(file, Watched::new(bytes, item, run))?;
    run.report(Event::Finished { item });
    Ok(())
}

/// The bytes of files, each content once.
pub fn size<'f>(files: impl IntoIterator<Item = &'f CarriedFile>) -> u64 {
    let sizes: BTreeMap<Digest, u64> = files.into_iter().map(|file| (file.digest, file.size)).collect();
    sizes.values().sum()
}

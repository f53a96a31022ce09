//! Spreads a set over several media, so that each is a complete layout of whole images.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Options, Prepared, plan, resolve};
use crate::error;
use crate::error::{Error, Result};
use crate::image::{Digest, Reference};
use crate::medium::{Filesystem, Medium};
use crate::plan::{self, Load, NoRoom, Room};
use crate::progress::Run;
use crate::record::{Elsewhere, Volume};
use crate::source::{ImageRequest, Resolved, Source};

/// Most media that a set is spread over.
const MOST: usize = 999;

/// Where a set may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destinations {
    /// These media, each as far as it has room.
    Media(Vec<PathBuf>),
    /// Directories `volume-1`, `volume-2` and so on below this one, of at most so many bytes each.
    Below(PathBuf, u64),
}

/// A set, spread over media.
#[derive(Debug)]
pub struct Spread {
    /// The media that get something, in order.
    pub volumes: Vec<VolumePlan>,
    /// Names of images that cannot be carried, and why. Empty unless the export keeps going.
    pub failed: Vec<(String, Arc<Error>)>,
}

/// What goes to one medium.
#[derive(Debug)]
pub struct VolumePlan {
    /// Where it is.
    pub path: PathBuf,
    /// What its record will say of the set.
    pub volume: Volume,
    images: Vec<Resolved>,
}

/// A medium of the set before anything is written to it.
struct Place {
    path: PathBuf,
    room: Room,
    volume: Option<Volume>,
    /// Its images, with the ids of their platforms.
    images: BTreeMap<Reference, Vec<Digest>>,
}

/// Resolves what is wanted and decides which image goes where. Nothing is written.
///
/// Layers that images share are counted on each medium that needs them, and with the bytes that they have
/// at the source, since nobody knows beforehand how far they shrink.
pub fn spread(
    source: &dyn Source,
    destinations: &Destinations,
    wanted: &[ImageRequest],
    options: &Options,
    run: Run<'_>,
) -> Result<Spread> {
    let (images, failed) = resolve::wanted(source, wanted, options, run)?;
    let mut places = destinations.places(options.recovery)?;
    let set = set_of(&places)?;
    let loads: Vec<Load> = images.iter().map(|image| Load::of(image, options.compression)).collect();
    let rooms = places.iter().map(|place| place.room.clone()).collect();
    let more = destinations.empty_room(options.recovery)?;
    let assigned =
        plan::spread(&loads, rooms, more.as_ref()).map_err(|none| no_room(&none, &places, destinations))?;
    let count = assigned.iter().max().map_or(0, |last| last + 1).max(places.len());
    if count > MOST {
        return Err(Error::Usage(format!(
            "the set would take {count} media, more than {MOST}: use larger ones"
        )));
    }
    for number in places.len()..count {
        places.push(Place::empty(destinations.path(number), more.clone().unwrap_or_default()));
    }
    for (image, place) in images.iter().zip(&assigned) {
        let ids = image.platforms.iter().map(|platform| platform.config.digest).collect();
        places[*place].images.insert(image.name.clone(), ids);
    }
    let mut shares: Vec<Vec<Resolved>> = places.iter().map(|_| Vec::new()).collect();
    for (image, place) in images.into_iter().zip(assigned) {
        shares[place].push(image);
    }
    // A medium on which there is nothing, and to which nothing goes, is none of the set.
    let mut used: Vec<(Place, Vec<Resolved>)> = places.into_iter().zip(shares).collect();
    used.retain(|(place, _)| !place.images.is_empty());
    let of = used.len() as u32;
    let elsewhere = |number: u32| {
        let others = used.iter().zip(1..).filter(move |(_, other)| *other != number);
        let images = others.flat_map(|((place, _), volume)| {
            place.images.iter().map(move |(name, ids)| Elsewhere {
                volume,
                name: name.clone(),
                ids: ids.clone(),
            })
        });
        images.collect::<Vec<_>>()
    };
    let volumes: Vec<Volume> = (1..=of)
        .map(|number| Volume { set: set.clone(), number, of, elsewhere: elsewhere(number) })
        .collect();
    let volumes = used.into_iter().zip(volumes);
    let volumes = volumes.map(|((place, images), volume)| VolumePlan { path: place.path, volume, images });
    Ok(Spread { volumes: volumes.collect(), failed })
}

impl VolumePlan {
    /// How many images go to it.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Plans the export of its share to the medium, which may not exist yet; `options` name its volume.
    pub fn prepare(
        &self,
        source: &dyn Source,
        medium: Option<&Medium>,
        options: &Options,
        run: Run<'_>,
    ) -> Result<Prepared> {
        plan(source, medium, &self.path, self.images.clone(), Vec::new(), options, run)
    }
}

impl Destinations {
    fn path(&self, at: usize) -> PathBuf {
        match self {
            Self::Media(paths) => paths.get(at).cloned().unwrap_or_default(),
            Self::Below(path, _) => path.join(format!("volume-{}", at + 1)),
        }
    }

    /// The media that there are.
    fn places(&self, recovery: Option<u32>) -> Result<Vec<Place>> {
        let (paths, size): (Vec<PathBuf>, _) = match self {
            Self::Media(paths) => (paths.clone(), None),
            Self::Below(_, size) => {
                let there = (0..MOST).map(|at| self.path(at)).take_while(|path| path.exists());
                (there.collect(), Some(*size))
            }
        };
        paths.into_iter().map(|path| Place::of(path, size, recovery)).collect()
    }

    /// A medium that is still to be made; `None` where all are given.
    fn empty_room(&self, recovery: Option<u32>) -> Result<Option<Room>> {
        let Self::Below(path, size) = self else { return Ok(None) };
        let block = Filesystem::of(path)?.block;
        Ok(Some(Room { free: beside_parity(*size, recovery.unwrap_or(0)), block, ..Room::default() }))
    }
}

impl Place {
    fn empty(path: PathBuf, room: Room) -> Self {
        Self { path, room, volume: None, images: BTreeMap::new() }
    }

    fn of(path: PathBuf, size: Option<u64>, recovery: Option<u32>) -> Result<Self> {
        let filesystem = Filesystem::of(&path)?;
        let medium = Medium::find(&path)?;
        let mut place = Self::empty(path, Room { block: filesystem.block, ..Room::default() });
        let record = medium.as_ref().and_then(Medium::record);
        let (mut taken, mut percent) = (0, recovery.unwrap_or(0));
        if let Some(record) = record {
            let layers = record.layers.iter().filter(|layer| !layer.encodings.is_empty());
            place.room.holds.extend(layers.map(|layer| layer.diff_id));
            place.room.holds.extend(record.blobs.iter().map(|blob| blob.digest));
            for image in &record.images {
                let ids: Vec<Digest> =
                    image.platforms.iter().map(|platform| platform.config.digest).collect();
                place.images.extend(image.names.iter().map(|name| (name.clone(), ids.clone())));
            }
            place.volume.clone_from(&record.volume);
            taken = record.blobs.iter().map(|blob| filesystem.occupied(blob.size)).sum();
            percent = recovery.or(record.recovery.as_ref().map(|there| there.percent)).unwrap_or(0);
        }
        place.room.names.extend(place.images.keys().cloned());
        let free = size.map_or(filesystem.free, |size| size.saturating_sub(taken).min(filesystem.free));
        place.room.free = beside_parity(free, percent);
        Ok(place)
    }
}

/// What is left of `bytes` for blobs where recovery data of `percent` go beside them.
fn beside_parity(bytes: u64, percent: u32) -> u64 {
    (u128::from(bytes) * 100 / (100 + u128::from(percent))) as u64
}

/// The id of the set that the media are of; a new one where they are of none.
fn set_of(places: &[Place]) -> Result<String> {
    let mut set: Option<(&str, &Path)> = None;
    for place in places {
        let Some(volume) = &place.volume else { continue };
        match set {
            Some((known, other)) if known != volume.set => {
                let (one, two) = (other.display(), place.path.display());
                return Err(Error::Usage(format!("{one} and {two} are of two different sets of media")));
            }
            _ => set = Some((&volume.set, &place.path)),
        }
    }
    Ok(set.map_or_else(crate::unique::id, |(set, _)| set.to_owned()))
}

fn no_room(none: &NoRoom, places: &[Place], destinations: &Destinations) -> Error {
    let (needed, free) = (none.needed, none.free);
    let no_room = |place: String| Error::NoRoom { place, image: none.name.to_string(), needed, free };
    match (none.bound.and_then(|bound| places.get(bound)), destinations) {
        (Some(place), _) => no_room(format!("{}, where an older edition is,", place.path.display())),
        (None, Destinations::Media(_)) => no_room("none of the media".into()),
        (None, Destinations::Below(..)) => Error::Usage(format!(
            "{} alone takes up to {}, and a medium holds {}: an image is never torn apart, use larger ones",
            none.name,
            error::size(needed),
            error::size(free),
        )),
    }
}

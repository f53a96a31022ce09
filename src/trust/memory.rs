//! What a node remembers of the media it took, so that an older one does not come back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::medium::{Root, durable};
use crate::record::{Record, Timestamp};

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;
const FORMAT: &str = "pannier-seen-v1";
const FILE: &str = "seen.json";

/// Where a commit stands among those that must not be taken in another order: all of a lane, or, where a
/// medium is in none, all of that medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// `lane NAME`, `lane NAME volume NUMBER` or `medium ID`.
    pub line: String,
    /// The seconds at which a lane's commit was issued; a medium's sequence.
    pub order: u64,
    /// The digest of the record's file.
    pub record: Digest,
    /// When it was written.
    pub created: Option<Timestamp>,
}

impl Position {
    /// The position of a record whose file has this digest.
    pub fn of(record: &Record, digest: Digest) -> Self {
        let (line, order) = match (&record.lane, &record.volume) {
            (Some(lane), None) => (format!("lane {}", lane.name), lane.issued),
            // The media of a set are issued one after the other, and taken in any order.
            (Some(lane), Some(volume)) => {
                (format!("lane {} volume {}", lane.name, volume.number), lane.issued)
            }
            (None, _) => (format!("medium {}", record.medium), record.sequence),
        };
        Self { line, order, record: digest, created: record.created.parse().ok() }
    }
}

/// The last commit that was taken of a lane or medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastTaken {
    /// Its place in the order.
    pub order: u64,
    /// The digest of its record.
    pub record: Digest,
    /// When it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

/// Everything that was taken, by lane or medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(pub BTreeMap<String, LastTaken>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    seen: BTreeMap<String, LastTaken>,
}

impl Memory {
    /// What is remembered in `directory`; nothing if there is no file.
    ///
    /// A file that cannot be understood is an error: to forget would let something old in.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = file(directory);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(Error::io(Side::Node, "read", &path))?,
        };
        Self::parse(&bytes).map_err(|reason| Error::invalid(Side::Node, path.display(), reason))
    }

    /// Reads the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_FILE {
            return Err("too long for what it should hold".into());
        }
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|error| format!("{error}; without it nobody knows which media are older"))?;
        if document.format != FORMAT {
            return Err("written by a newer pannier".into());
        }
        Ok(Self(document.seen))
    }

    /// The time of the newest commit that was taken: the clock cannot be before it.
    pub fn newest(&self) -> Option<Timestamp> {
        self.0.values().filter_map(|seen| seen.created).max()
    }

    /// Notes that `position` was taken. A commit that was taken although it is older changes nothing.
    pub fn note(&mut self, position: Position) {
        let Position { line, order, record, created } = position;
        match self.0.get_mut(&line) {
            Some(seen) if seen.order >= order => {}
            _ => drop(self.0.insert(line, LastTaken { order, record, created })),
        }
    }
}

/// Changes what is remembered in `directory`, which is made if it is not there: whole, or not at all.
pub fn remember<T>(directory: &Path, change: impl FnOnce(&mut Memory) -> T) -> Result<T> {
    let fail = |action, path: &Path| Error::io(Side::Node, action, path.to_owned());
    std::fs::create_dir_all(directory).map_err(fail("create", directory))?;
    // Two imports at a time would each forget what the other one took.
    let path = directory.join("seen.lock");
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true).mode(0o644);
    let lock = options.open(&path).map_err(fail("open", &path))?;
    lock.lock().map_err(fail("lock", directory))?;
    let mut memory = Memory::read(directory)?;
    let before = memory.clone();
    let result = change(&mut memory);
    if memory == before {
        return Ok(result);
    }
    let document = Document { format: FORMAT.into(), seen: memory.0 };
    let mut bytes = serde_json::to_vec_pretty(&document)
        .map_err(|error| Error::invalid(Side::Node, directory.display(), error))?;
    bytes.push(b'\n');
    durable::write_whole(&Root::open_as(Side::Node, directory)?, FILE, &bytes)?;
    Ok(result)
}

fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Lane, Volume};

    fn position(line: &str, order: u64) -> Position {
        let created = "2026-01-01T00:00:00Z".parse().ok();
        Position { line: line.into(), order, record: Digest::of(&order.to_be_bytes()), created }
    }

    #[test]
    fn what_is_noted_is_remembered_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("state/of/pannier");
        assert_eq!(Memory::read(&directory).unwrap(), Memory::default());
        for (line, order) in [("lane a", 7), ("medium b", 3), ("lane a", 5), ("lane a", 9)] {
            remember(&directory, |memory| memory.note(position(line, order))).unwrap();
        }
        let memory = Memory::read(&directory).unwrap();
        let orders: Vec<_> = memory.0.iter().map(|(line, seen)| (line.as_str(), seen.order)).collect();
        assert_eq!(orders, [("lane a", 9), ("medium b", 3)]);
        assert_eq!(memory.newest().unwrap().to_string(), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn the_media_of_a_set_do_not_follow_each_other() {
        let mut record = Record::empty("0".repeat(32));
        record.sequence = 3;
        let line = |record: &Record| {
            let position = Position::of(record, Digest::of(b""));
            (position.line, position.order)
        };
        assert_eq!(line(&record), (format!("medium {}", record.medium), 3));
        record.lane = Some(Lane { name: "plant-a".parse().unwrap(), issued: 7 });
        assert_eq!(line(&record), ("lane plant-a".into(), 7));
        record.volume = Some(Volume { set: "1".repeat(32), number: 2, of: 3, elsewhere: Vec::new() });
        assert_eq!(line(&record), ("lane plant-a volume 2".into(), 7));
    }

    #[test]
    fn what_is_damaged_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "{", r#"{"format":"pannier-seen-v2","seen":{}}"#, r#"{"format":"pannier-seen-v1"}"#] {
            std::fs::write(file(dir.path()), bad).unwrap();
            assert!(Memory::read(dir.path()).is_err(), "{bad}");
            assert!(remember(dir.path(), |memory| memory.note(position("lane a", 1))).is_err());
            assert_eq!(std::fs::read_to_string(file(dir.path())).unwrap(), bad);
        }
    }
}

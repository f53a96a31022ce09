//! Waits for media: which of the mounts that come and go are one.
//!
//! The kernel tells of every change of the table of mounts: `/proc/self/mountinfo` has an exceptional
//! condition then (proc(5)).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Error, Result, Side};
use crate::progress::Stop;

const TABLE: &str = "/proc/self/mountinfo";
/// How often it is looked whether somebody asked to stop, where no signal ends the waiting.
const TICK: Duration = Duration::from_secs(1);
/// What every medium has.
const MARK: &str = ".pannier";

/// A filesystem that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The kernel's number for it; used again when it is gone.
    pub id: u64,
    /// The device, as major:minor.
    pub device: String,
    /// Where.
    pub path: PathBuf,
}

/// The mounts in a table of the form of `/proc/self/mountinfo`. Lines that make no sense are passed over.
pub fn mounts(table: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
        let path = fields.nth(1)?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescaped(path)));
        Some(Mount { id, device, path })
    };
    table.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// Space, tab, newline and backslash are written as three octal digits behind a backslash.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                bytes.push(
                    digits.iter().fold(0u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

/// The table of mounts, watched.
#[derive(Debug)]
pub struct Watch {
    table: File,
    /// Media are looked for at these directories and beneath them.
    places: Vec<PathBuf>,
    known: BTreeSet<Mount>,
    /// Those of the known mounts that are media.
    media: BTreeSet<Mount>,
}

/// What came and went since it was looked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Media that were mounted; at first all that are.
    pub arrived: Vec<PathBuf>,
    /// Media that are no longer mounted.
    pub gone: Vec<PathBuf>,
}

impl Watch {
    /// Watches for mounts at and beneath `places`.
    pub fn new(places: &[PathBuf]) -> Result<Self> {
        let table = File::open(TABLE).map_err(Error::io(Side::Node, "open", TABLE))?;
        // The kernel knows paths without links; a place may still be made.
        let places = places.iter().map(|place| place.canonicalize().unwrap_or_else(|_| place.clone()));
        Ok(Self { table, places: places.collect(), known: BTreeSet::new(), media: BTreeSet::new() })
    }

    /// Looks at the table, and for the mark of a medium at what is new in it.
    pub fn look(&mut self) -> Result<Changes> {
        let mut table = Vec::new();
        let read = self.table.seek(SeekFrom::Start(0)).and_then(|_| self.table.read_to_end(&mut table));
        read.map_err(Error::io(Side::Node, "read", TABLE))?;
        let there = mounts(&table).into_iter().filter(|mount| self.is_watched(&mount.path));
        let there: BTreeSet<Mount> = there.collect();
        let new = there.difference(&self.known).filter(|mount| is_medium(&mount.path));
        let new: BTreeSet<Mount> = new.cloned().collect();
        let paths =
            |mounts: &mut dyn Iterator<Item = &Mount>| mounts.map(|mount| mount.path.clone()).collect();
        let changes =
            Changes { arrived: paths(&mut new.iter()), gone: paths(&mut self.media.difference(&there)) };
        self.media.retain(|medium| there.contains(medium));
        self.media.extend(new);
        self.known = there;
        Ok(changes)
    }

    fn is_watched(&self, path: &Path) -> bool {
        self.places.iter().any(|place| path.starts_with(place))
    }

    /// Waits for a change of the table, but not past `deadline`; false if nothing changed by then.
    ///
    /// Errors: [`Error::Interrupted`].
    pub fn wait(&self, deadline: Option<Instant>, stop: &Stop) -> Result<bool> {
        loop {
            stop.check()?;
            let left = deadline
                .map_or(TICK, |deadline| deadline.saturating_duration_since(Instant::now()).min(TICK));
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut watched = [PollFd::new(&self.table, PollFlags::PRI)];
            match poll(&mut watched, Some(&left)) {
                // A change is told as an error as well, so both are asked for.
                Ok(_) if watched[0].revents().intersects(PollFlags::PRI | PollFlags::ERR) => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::io(Side::Node, "watch", TABLE)(errno.into())),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
        }
    }
}

/// Whether the filesystem at `path` says that it is a medium. Nothing of it is believed for that.
fn is_medium(path: &Path) -> bool {
    path.join(MARK).symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_as_the_kernel_writes_it() {
        let table = b"22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw\n\
            130 22 8:17 / /media/my\\040stick\\134\\011 ro,nosuid - exfat /dev/sdb1 ro\n\
            x 22 8:17 / /media/bad ro - exfat /dev/sdb1 ro\n\
            131\n";
        let seen = mounts(table);
        let mount = |id, device: &str, path: &str| Mount { id, device: device.into(), path: path.into() };
        assert_eq!(seen, [mount(22, "259:2", "/"), mount(130, "8:17", "/media/my stick\\\t")]);
        assert_eq!(unescaped(b"\\04"), b"\\04");
        assert_eq!(unescaped(b"\\"), b"\\");
    }

    #[test]
    fn only_mounts_at_the_places_count_and_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&[directory.path().to_owned()]).unwrap();
        // A directory with the mark that nothing is mounted on is no medium that arrived.
        std::fs::create_dir_all(directory.path().join("x/.pannier")).unwrap();
        assert_eq!(watch.look().unwrap(), Changes::default());
        assert!(watch.is_watched(&directory.path().canonicalize().unwrap().join("x")));
        assert!(!watch.is_watched(Path::new("/")));
        let mut all = Watch::new(&["/".into()]).unwrap();
        let marked = is_medium(Path::new("/"));
        assert_eq!(all.look().unwrap().arrived.contains(&"/".into()), marked);
        assert!(!all.look().unwrap().arrived.contains(&"/".into()));
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_when_asked_to() {
        let watch = Watch::new(&["/nowhere".into()]).unwrap();
        let stop = Stop::default();
        // Other processes may mount something meanwhile; that ends the waiting too.
        watch.wait(Some(Instant::now()), &stop).unwrap();
        stop.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(watch.wait(None, &stop), Err(Error::Interrupted)));
    }
}

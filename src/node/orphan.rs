//! Directories of snapshots that a killed containerd made and did not note.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result, Side};

/// A directory that changed so shortly before may be another client's snapshot.
const SETTLED: Duration = Duration::from_secs(1);
/// How often a snapshot is prepared again.
const ATTEMPTS: usize = 50;
/// The pause before that, when the directory has not settled.
const PAUSE: Duration = Duration::from_millis(100);

/// Prepares a snapshot, making way for it where a directory that belongs to none is in its place.
///
/// overlayfs numbers its snapshots in its database and gives a new directory its number before the
/// database has it for good. A containerd that is killed in between hands the same number out again
/// and again, and preparing fails with "file exists" for ever (seen on 1.6.20; a restart does not
/// help). The directory in the way belongs to no snapshot, since a number in use is not given out. It
/// is only renamed, to the form of containerd's own unfinished ones, which its next collection removes.
///
/// `root` is the snapshotter's directory, if it can be seen from here; without it, and for anything
/// but a numbered directory there, the error stands.
pub(super) fn prepare<T>(root: Option<&Path>, prepare: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        let asked = SystemTime::now();
        match (prepare(), root) {
            (Err(Error::Refused { side, action, reason }), Some(root)) => {
                let Some(taken) = taken_directory(&reason, root) else {
                    return Err(Error::Refused { side, action, reason });
                };
                if !move_aside(taken, asked).map_err(Error::io(Side::Node, "rename", taken))? {
                    std::thread::sleep(PAUSE);
                }
            }
            (other, _) => return other,
        }
    }
    prepare()
}

/// Renames the directory; false if it may be one that another client has just put there: it is then
/// newer than the question which it was in the way of.
fn move_aside(taken: &Path, asked: SystemTime) -> io::Result<bool> {
    let known = match taken.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let changed = UNIX_EPOCH + Duration::from_secs(known.ctime().max(0) as u64);
    if changed + SETTLED + SETTLED > asked {
        return Ok(false);
    }
    let id = crate::unique::id();
    let aside = taken.with_file_name(format!("new-pannier{}", &id[..8]));
    match std::fs::rename(taken, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    }
    if aside.symlink_metadata()?.ino() != known.ino() {
        // Another import was faster, and this is what containerd made in the meantime.
        std::fs::rename(&aside, taken)?;
    }
    Ok(true)
}

/// The directory that containerd could not rename to, if it is `root`/snapshots/<number>.
fn taken_directory<'a>(reason: &'a str, root: &Path) -> Option<&'a Path> {
    let taken = reason.strip_suffix(": file exists")?.rsplit_once(' ')?.1;
    let mut below = Path::new(taken).strip_prefix(root).ok()?.components();
    let (first, second, end) = (below.next()?, below.next()?, below.next());
    let numbered = |name: &OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let known = first == Component::Normal(OsStr::new("snapshots"))
        && matches!(second, Component::Normal(name) if numbered(name))
        && end.is_none();
    known.then_some(Path::new(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(reason: &str) -> Option<&Path> {
        taken_directory(reason, Path::new("/c/overlayfs"))
    }

    #[test]
    fn only_a_numbered_directory_of_the_snapshotter_is_in_the_way() {
        let said =
            "failed to rename: rename /c/overlayfs/snapshots/new-18 /c/overlayfs/snapshots/5: file exists";
        assert_eq!(taken(said), Some(Path::new("/c/overlayfs/snapshots/5")));
        for other in [
            "failed to rename: rename a /c/overlayfs/snapshots/5: permission denied",
            "rename a /c/overlayfs/snapshots/five: file exists",
            "rename a /c/overlayfs/snapshots/5/fs: file exists",
            "rename a /c/overlayfs/snapshots: file exists",
            "rename a /c/overlayfs/../snapshots/5: file exists",
            "rename a /etc/5: file exists",
            "file exists",
        ] {
            assert_eq!(taken(other), None, "{other}");
        }
    }
}

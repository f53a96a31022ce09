//! Where the medium is: on something that can be pulled out, or in a directory of this machine's own disk.

use std::path::{Path, PathBuf};

use crate::cli::output::Output;
use crate::medium::Mount;

/// Where sticks and disks are mounted (FHS 3.0, 3.11 and 3.12; udisks mounts below `/run/media`).
const MOUNT_PLACES: [&str; 3] = ["/media", "/mnt", "/run/media"];

/// Warns of a place where a stick would be mounted and none is: the disk of this machine would be filled.
pub(super) fn warn(path: &Path, is_medium: bool, output: &Output) {
    let Ok(absolute) = std::path::absolute(path) else { return };
    let meant = MOUNT_PLACES.iter().any(|place| absolute.starts_with(place) && absolute != Path::new(place));
    if meant && !is_medium && is_unmounted(&absolute) {
        output.complain(format_args!(
            "warning: nothing is mounted at {}: this writes to the disk of this machine, not to a stick. Press Ctrl-C and mount it first",
            path.display()
        ));
    }
}

/// What to do with the medium after an export.
pub(super) fn afterwards(path: &Path) -> String {
    let medium = path.display();
    if is_unmounted(path) {
        format!(
            "{medium} is a directory on this machine's own disk: copy all of it, `.pannier` too, to carry it."
        )
    } else {
        "Unmount it before you pull it out, or run `pannier eject`.".to_owned()
    }
}

/// Whether a path is on the filesystem of `/` itself, or would be if it were made.
fn is_unmounted(path: &Path) -> bool {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing: Option<PathBuf> = absolute.ancestors().find(|path| path.exists()).map(Path::to_owned);
    // A directory of the same filesystem may be mounted there all the same: the device alone does not tell.
    existing.and_then(|path| Mount::of(&path)).is_some_and(|mount| mount.point == Path::new("/"))
}

//! The root directory of a containerd: whether it can be filled, and what must not stay behind.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::mount::UnmountFlags;

use super::refused;
use crate::error::{Error, Result, Side};
use crate::medium::Filesystem;
use crate::node;

/// containerd's database below its root. One that runs holds a lock on it.
const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// The id that a containerd makes up for itself: copies of an image must not share one.
const IDENTITY: &str = "io.containerd.grpc.v1.introspection/uuid";
/// Where containerd mounts layers while it unpacks them, below its root.
const TEMPORARY_MOUNTS: &str = "tmpmounts";
/// Folders of a containerd that runs. Canonical Kubernetes does not bootstrap where the first is there.
const RUN_FOLDERS: [&str; 2] = ["run/containerd", "var/snap/k8s/common/run/containerd"];

/// An error unless `root` can be the root directory of a containerd that unpacks with `snapshotter`,
/// and is that of none which runs. It need not be there.
pub(super) fn require_usable(root: &Path, snapshotter: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(refused(
            root,
            "it takes root: layers are unpacked with their owners, devices and attributes",
        ));
    }
    if let (Ok(to), false) = (fs::read_link(root), root.exists()) {
        let reason = format!(
            "it is a link to {}, which is not there; where that is meant within an image, say --distro and --sysroot",
            to.display()
        );
        return Err(refused(root, reason));
    }
    if root.exists() && !root.is_dir() {
        return Err(refused(root, "it is not a directory"));
    }
    let filesystem = Filesystem::of(root).map_err(on_node)?;
    let overlay = snapshotter == "overlayfs";
    match filesystem.name.as_str() {
        "overlayfs" if overlay => {
            return Err(refused(
                root,
                "it is on overlayfs itself, on which overlayfs cannot unpack layers; in a container build, bake \
                 into a volume or a mounted image",
            ));
        }
        name @ ("NFS" | "FAT32" | "exFAT" | "NTFS" | "ISO 9660" | "UDF") => {
            return Err(refused(
                root,
                format!("it is on {name}, which holds no layers or no database of containerd"),
            ));
        }
        _ if filesystem.read_only => {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(Error::from_io(Side::Node, "write to", root.into(), source));
        }
        _ => {}
    }
    if is_held(&root.join(DATABASE))? {
        return Err(refused(
            root,
            "a containerd runs on it; import into that one with `pannier import`, or stop it first",
        ));
    }
    Ok(())
}

/// Whether another process holds the database.
fn is_held(database: &Path) -> Result<bool> {
    let file = match File::open(database) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::from_io(Side::Node, "open", database.into(), error)),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(Error::from_io(Side::Node, "lock", database.into(), errno.into())),
    }
}

/// Filesystems are examined for media otherwise.
fn on_node(error: Error) -> Error {
    match error {
        Error::Io { action, path, source, .. } => Error::Io { side: Side::Node, action, path, source },
        other => other,
    }
}

/// Removes what a copy of the directory must not have, and brings the rest to the disk.
pub(super) fn tidy(root: &Path) -> Result<()> {
    let identity = root.join(IDENTITY);
    match fs::remove_file(&identity) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::from_io(Side::Node, "remove", identity, error));
        }
        _ => {}
    }
    node::sync(root)
}

/// Unmounts what a containerd that was interrupted while it unpacked left mounted: an image with
/// mounts in it cannot be unmounted.
pub(super) fn unmount_leftovers(root: &Path) {
    let Ok(below) = fs::canonicalize(root.join(TEMPORARY_MOUNTS)) else { return };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounts_below(&mounts, &below) {
        // Whoever unmounts the image is told if one is left.
        let _ = rustix::mount::unmount(&mount, UnmountFlags::DETACH);
    }
}

/// The mount points below `folder`, the last mounted first (`proc(5)`, mountinfo).
fn mounts_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<PathBuf> = points.map(|point| PathBuf::from(unescape(point))).collect();
    points.retain(|point| point != folder && point.starts_with(folder));
    points.reverse();
    points
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The folders of a running containerd, in the system that is baked and on this machine.
#[derive(Debug)]
pub(super) struct RunFolders {
    system: PathBuf,
    before: Vec<PathBuf>,
}

impl RunFolders {
    /// Notes which are there.
    pub(super) fn note(system: &Path) -> Self {
        let before = Self::folders(system).filter(|folder| folder.exists()).collect();
        Self { system: system.to_owned(), before }
    }

    fn folders(system: &Path) -> impl Iterator<Item = PathBuf> {
        let systems = [Path::new("/"), system].map(Path::to_owned);
        let systems: Vec<PathBuf> =
            if systems[0] == systems[1] { vec![systems[0].clone()] } else { systems.into() };
        systems.into_iter().flat_map(|system| RUN_FOLDERS.map(|folder| system.join(folder)))
    }

    /// What to say about those that are there now and should not be.
    pub(super) fn appeared(&self) -> Vec<String> {
        let there = Self::folders(&self.system).filter(|folder| folder.exists());
        let wrong = there.filter(|folder| {
            // Of this machine's own a containerd may run; what is baked runs none.
            let foreign = self.system != Path::new("/") && folder.starts_with(&self.system);
            foreign || !self.before.contains(folder)
        });
        let say = |folder: PathBuf| {
            format!(
                "{} is there; Canonical Kubernetes does not bootstrap with it: remove it",
                folder.display()
            )
        };
        wrong.map(say).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_held_is_told_from_one_that_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meta.db");
        assert!(!is_held(&path).unwrap());
        let file = File::create(&path).unwrap();
        assert!(!is_held(&path).unwrap());
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        assert!(is_held(&path).unwrap());
    }

    #[test]
    fn only_mounts_below_the_folder_are_unmounted_the_last_first() {
        let mountinfo = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
             30 22 0:40 / /m\\040y/tmpmounts/a rw,relatime - overlay overlay rw\n\
             31 30 0:41 / /m\\040y/tmpmounts/a/b rw - tmpfs tmpfs rw\n\
             32 22 0:42 / /m\\040y/tmpmountsbeside rw - tmpfs tmpfs rw\n";
        let below = mounts_below(mountinfo, Path::new("/m y/tmpmounts"));
        assert_eq!(below, [Path::new("/m y/tmpmounts/a/b"), Path::new("/m y/tmpmounts/a")]);
    }

    #[test]
    fn a_run_folder_of_the_baked_system_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let folders = RunFolders::note(directory.path());
        assert!(folders.appeared().is_empty());
        fs::create_dir_all(directory.path().join("run/containerd")).unwrap();
        assert_eq!(folders.appeared().len(), 1);
        assert_eq!(RunFolders::note(directory.path()).appeared().len(), 1, "from before as well");
    }
}

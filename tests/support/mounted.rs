//! Small filesystems in files, mounted for as long as a test wants them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 filesystem of its own, in a file, mounted on a directory.
pub(crate) struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    /// Makes and mounts one of so many MiB.
    pub(crate) fn ext4(mebibytes: u64) -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-ext4-").tempdir().unwrap();
        let (image, to) = (directory.path().join("image"), directory.path().join("mnt"));
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        std::fs::create_dir(&to).unwrap();
        call(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        call(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&to));
        Self { directory }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Mounts what is mounted here at another directory instead, as a stick that is put in elsewhere.
    pub(crate) fn bind(&self, to: &Path) {
        call(Command::new("mount").arg("--bind").arg(self.path()).arg(to));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Unmounts what is mounted at `path`.
pub(crate) fn unmount(path: &Path) {
    call(Command::new("umount").arg(path));
}

fn call(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

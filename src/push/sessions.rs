//! Where uploads go on in another run: one small file each. They are hints; nothing depends on them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use crate::image::{Descriptor, Digest, Reference};

/// Longest place of an upload that is read, in bytes.
const MAX_LOCATION: u64 = 16 << 10;

/// Notes of unfinished uploads.
#[derive(Debug)]
pub(super) struct Sessions {
    directory: Option<PathBuf>,
}

impl Sessions {
    /// In the folder `push` of the state directory, if there is one and it can be written.
    pub(super) fn new(state: Option<PathBuf>) -> Self {
        let directory = state.map(|state| state.join("push"));
        let usable = |directory: &PathBuf| {
            // The place of an upload may hold what opens it.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).is_ok()
        };
        Self { directory: directory.filter(usable) }
    }

    fn file(&self, target: &Reference, blob: &Descriptor) -> Option<PathBuf> {
        let key = Digest::of(format!("{} {}", target.repository(), blob.digest).as_bytes());
        self.directory.as_ref().map(|directory| directory.join(key.hex()))
    }

    /// Where an earlier run left the upload of a blob.
    pub(super) fn find(&self, target: &Reference, blob: &Descriptor) -> Option<String> {
        let mut text = String::new();
        let file = fs::File::open(self.file(target, blob)?).ok()?;
        file.take(MAX_LOCATION).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Notes where an upload goes on.
    pub(super) fn note(&self, target: &Reference, blob: &Descriptor, location: &str) {
        let Some(path) = self.file(target, blob) else { return };
        let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let _ = opened.and_then(|mut file| file.write_all(location.as_bytes()));
    }

    /// The upload is over.
    pub(super) fn forget(&self, target: &Reference, blob: &Descriptor) {
        let _ = self.file(target, blob).map(fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_until_it_is_forgotten_and_may_be_impossible() {
        let directory = tempfile::tempdir().unwrap();
        let (target, blob) = ("m.io/a:1".parse().unwrap(), Descriptor::of("x", b"x"));
        let sessions = Sessions::new(Some(directory.path().join("state")));
        sessions.note(&target, &blob, "https://m.io/long");
        sessions.note(&target, &blob, "https://m.io/1");
        assert_eq!(sessions.find(&target, &blob).as_deref(), Some("https://m.io/1"));
        assert_eq!(sessions.find(&"m.io/b:1".parse().unwrap(), &blob), None);
        sessions.forget(&target, &blob);
        assert_eq!(sessions.find(&target, &blob), None);
        let nowhere = Sessions::new(None);
        nowhere.note(&target, &blob, "x");
        assert_eq!(nowhere.find(&target, &blob), None);
    }
}

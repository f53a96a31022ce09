//! Repairing files of a medium: what is made again takes the place of what is damaged.
//!
//! `.pannier/ingest/<name>.new` is the repaired file until it was brought to the device, read back and
//! hashed. Then the damaged one goes aside as `.pannier/ingest/<name>.old`, the repaired one takes its
//! name, and the damaged one is removed: three steps with a sync of the directories after each, since a
//! rename that a power cut hits may lose the file it renames. Whichever step is hit, one of the two is
//! there; [`Medium::settle`] goes back to the damaged one, parts of which may be good.

use std::io::{self, Read, Write};

use super::writer::Writer;
use super::{Medium, OCI_LAYOUT, blob_name, durable, parts};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, Hasher};
use crate::record::RootName;

const INGEST: &str = ".pannier/ingest";
/// Bytes that are read back at a time.
const CHUNK: usize = 1 << 20;

/// A file that is made again.
#[derive(Debug)]
pub struct Replacement<'m> {
    medium: &'m Medium,
    target: String,
    writer: Writer<'m>,
}

impl Medium {
    /// Starts the repaired file of the blob `digest`.
    pub fn replace_blob(&self, digest: &Digest) -> Result<Replacement<'_>> {
        self.replace_within(blob_name(digest), self.part_of(digest))
    }

    /// Starts the repaired file `target`, a path beneath the root.
    pub(crate) fn replace(&self, target: String) -> Result<Replacement<'_>> {
        self.replace_within(target, u64::MAX)
    }

    /// The same, in files of at most so many bytes each.
    fn replace_within(&self, target: String, most: u64) -> Result<Replacement<'_>> {
        let staged = format!("{INGEST}/{}.new", last(&target));
        // A name that an earlier repair left is made fresh: nothing of that file is believed.
        durable::remove(&self.root, &staged)?;
        let file = durable::create(&self.root, &staged)?;
        Ok(Replacement { medium: self, target, writer: Writer::new(self, staged, file, most) })
    }

    /// Makes the directories of a medium that are missing.
    pub fn make_directories(&self) -> Result<()> {
        super::DIRECTORIES.iter().try_for_each(|directory| durable::make_directory(&self.root, directory))
    }

    /// Undoes what an interrupted repair left half done, so that everything is where it was.
    pub fn settle(&self) -> Result<()> {
        for name in self.root.list(INGEST)? {
            let path = format!("{INGEST}/{name}");
            if let Some(target) = name.strip_suffix(".old").and_then(place) {
                match self.root.size(&target) {
                    Ok(None) => durable::publish(&self.root, &path, &target)?,
                    _ => durable::remove(&self.root, &path)?,
                }
            } else if name.ends_with(".new") || name.contains(".new.") {
                durable::remove(&self.root, &path)?;
            }
        }
        Ok(())
    }

    /// Writes `oci-layout` anew.
    pub fn rewrite_layout(&self) -> Result<()> {
        let mut replacement = self.replace("oci-layout".into())?;
        replacement.write_bytes(OCI_LAYOUT)?;
        replacement.commit(&Descriptor::of("", OCI_LAYOUT))
    }

    /// Removes a commit record that cannot be used, beside a newer one that can.
    pub fn remove_record(&self, rejected: &super::Rejected) -> Result<()> {
        match self.record() {
            Some(record) if record.sequence > rejected.sequence => {
                durable::remove(&self.root, &rejected.name)
            }
            _ => Ok(()),
        }
    }
}

impl Replacement<'_> {
    /// The digest and size of what was written so far.
    pub fn written(&self) -> (Digest, u64) {
        self.writer.written()
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.medium.root.join(self.writer.name());
        self.write_all(bytes).map_err(|source| Error::from_io(Side::Medium, "write", path, source))
    }

    /// Lets it be run as a program. A filesystem that has no such bits has them set for all, or for none.
    pub(super) fn make_executable(&self) {
        if let Ok(file) = self.medium.root.open_file(self.writer.name()) {
            let _ = rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o755));
        }
    }

    /// Gives the repaired file its place, after it was read back as `expected`.
    ///
    /// Other bytes are thrown away and the damaged file stays: `side` of the error is the source's,
    /// which they came from.
    pub fn commit(self, expected: &Descriptor) -> Result<()> {
        let (digest, size) = self.written();
        if (digest, size) != (expected.digest, expected.size) {
            let (what, expected) = (last(&self.target).to_owned(), expected.digest);
            self.discard()?;
            return Err(Error::DigestMismatch { side: Side::Source, what, expected, found: digest });
        }
        self.prove(digest)?;
        let aside = |target: &str| format!("{INGEST}/{}.old", last(target));
        let exchange =
            |staged: &str, target: &str| durable::exchange(&self.medium.root, staged, target, &aside(target));
        match self.writer.names().as_slice() {
            [one] => exchange(one, &self.target),
            several => {
                durable::make_directory(&self.medium.root, parts::DIRECTORY)?;
                for (number, staged) in several.iter().enumerate() {
                    exchange(staged, &parts::path(&digest, number))?;
                }
                self.medium.remove_parts(&digest, several.len())
            }
        }
    }

    /// The same, whatever the bytes are that were written.
    pub fn commit_as_it_is(self) -> Result<(Digest, u64)> {
        let (digest, size) = self.written();
        self.commit(&Descriptor { media_type: Default::default(), digest, size })?;
        Ok((digest, size))
    }

    /// Makes what was written a blob of its own, under its own digest.
    pub fn commit_as_other(self) -> Result<(Digest, u64)> {
        let (digest, size) = self.written();
        self.prove(digest)?;
        self.medium.publish_blob(&digest, &self.writer.names())?;
        Ok((digest, size))
    }

    /// Brings the file to the device and reads it back.
    fn prove(&self, expected: Digest) -> Result<()> {
        let (root, staged) = (&self.medium.root, self.writer.name());
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; CHUNK];
        for part in self.writer.names() {
            let mut file = root.open_file(&part)?;
            durable::sync_new(root, INGEST, &part, &file)?;
            durable::forget_cached(&file);
            loop {
                match file.read(&mut buffer).map_err(|source| root.error("read", &part, source))? {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
        }
        match hasher.finish() {
            found if found == expected => Ok(()),
            found => {
                let what = staged.to_owned();
                Err(Error::DigestMismatch { side: Side::Medium, what, expected, found })
            }
        }
    }

    /// Gives it up; what it was to repair stays as it is.
    pub fn discard(self) -> Result<()> {
        self.writer.names().iter().try_for_each(|name| durable::remove(&self.medium.root, name))
    }
}

impl Write for Replacement<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Where a file of this name belongs.
fn place(name: &str) -> Option<String> {
    if Digest::from_hex(name).is_ok() {
        return Some(format!("blobs/sha256/{name}"));
    }
    if parts::digest_of(name).is_some() {
        return Some(format!("{}/{name}", parts::DIRECTORY));
    }
    match name.rsplit_once('.') {
        Some((_, "json")) if name.len() == 15 => Some(format!(".pannier/commits/{name}")),
        _ if name == "oci-layout" => Some(name.to_owned()),
        _ if RootName::ALL.iter().any(|root| root.as_str() == name) => Some(name.to_owned()),
        _ if super::recovery::is_name(name) => Some(super::recovery::path(name)),
        _ => None,
    }
}

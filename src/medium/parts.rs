//! Blobs that are longer than a file on the medium may be: carried in parts.
//!
//! FAT32 holds files of at most 4 GiB less one byte. A part is named after its blob and its number,
//! `.pannier/parts/<64 hex>.000`, and all but the last have one length. No other tool could read an image
//! with such a layer, so `index.json` leaves it out.

use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::os::unix::fs::FileExt;

use rustix::io::{ReadWriteFlags, preadv2};

use super::{Medium, blob_name, durable};
use crate::error::Result;
use crate::image::Digest;
use crate::record::{Blob, Parts, Record};

pub(super) const DIRECTORY: &str = ".pannier/parts";
/// Most parts of a blob.
pub(super) const MOST: usize = 256;

/// An open blob: one file, or several of which each goes on where the one before it ends.
#[derive(Debug)]
pub struct BlobFile {
    /// Where each begins.
    files: Vec<(u64, File)>,
    size: u64,
    at: u64,
    /// Where in its one file it begins, where something else is before and behind it.
    within: Option<u64>,
}

impl BlobFile {
    /// The `size` bytes of a file from `offset` on.
    pub(super) fn within(file: File, offset: u64, size: u64) -> Self {
        Self { files: vec![(0, file)], size, at: 0, within: Some(offset) }
    }

    pub(super) fn new(opened: Vec<File>) -> io::Result<Self> {
        let (mut files, mut size) = (Vec::new(), 0_u64);
        for file in opened {
            let length = file.metadata()?.len();
            files.push((size, file));
            size = size.saturating_add(length);
        }
        Ok(Self { files, size, at: 0, within: None })
    }

    /// How long it was when it was opened, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Goes on reading at `offset`.
    pub fn skip_to(&mut self, offset: u64) {
        self.at = offset;
    }

    /// Fills `out` with what is at `offset`, or fails.
    pub(crate) fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !out.is_empty() {
            match self.read_at(out, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    out = &mut out[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let which = self.files.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        let Some((start, file)) = self.files.get(which) else { return Ok(0) };
        // A part ends where the next begins; the last is read to its end, wherever that is by now.
        let most = self
            .files
            .get(which + 1)
            .map_or(usize::MAX, |(next, _)| usize::try_from(next - offset).unwrap_or(usize::MAX));
        let most = most.min(out.len());
        if let Some(first) = self.within {
            let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            return file.read_at(&mut out[..most.min(left)], first.saturating_add(offset));
        }
        file.read_at(&mut out[..most], offset - start)
    }

    /// Whether a byte in the middle of one of its files can be read without waiting for the device. Filesystems that
    /// cannot tell are believed to have to.
    pub(super) fn is_cached(&self) -> bool {
        self.files.iter().any(|(_, file)| {
            let size = file.metadata().map_or(0, |metadata| metadata.len());
            let read = preadv2(file, &mut [IoSliceMut::new(&mut [0])], size / 2, ReadWriteFlags::NOWAIT);
            matches!(read, Ok(1))
        })
    }

    /// Has its next bytes come from the medium, where the system allows it.
    pub(super) fn forget_cached(&self) {
        self.files.iter().for_each(|(_, file)| durable::forget_cached(file));
    }
}

impl Read for BlobFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The path of a part of a blob beneath the root.
pub(super) fn path(digest: &Digest, number: usize) -> String {
    format!("{DIRECTORY}/{}.{number:03}", digest.hex())
}

/// The blob that a file in the directory of parts belongs to.
pub(super) fn digest_of(name: &str) -> Option<Digest> {
    let (hex, number) = name.split_once('.')?;
    let legal = number.len() == 3 && number.bytes().all(|b| b.is_ascii_digit());
    Digest::from_hex(hex).ok().filter(|_| legal)
}

impl Medium {
    /// Has blobs of more than `bytes` written in parts of so many; those that are there stay as they are.
    pub fn split_at(&mut self, bytes: u64) {
        self.part_size = Some(bytes.max(1));
    }

    /// Bytes that a file of a new blob may have.
    pub(super) fn most_in_a_file(&self) -> u64 {
        self.part_size.unwrap_or(u64::MAX)
    }

    /// Bytes that a file of this blob has when it is made again.
    pub(super) fn part_of(&self, digest: &Digest) -> u64 {
        let parts = self.record().into_iter().flat_map(|record| &record.parts);
        parts
            .filter(|parts| parts.digest == *digest)
            .map(|parts| parts.size.max(1))
            .next()
            .unwrap_or(u64::MAX)
    }

    /// Opens the files of a blob, whatever is in them; `None` if there are none.
    pub(super) fn open_blob_files(&self, digest: &Digest) -> Result<Option<BlobFile>> {
        let name = blob_name(digest);
        let files = match self.root.find(self.root.open_file(&name))? {
            Some(file) => vec![file],
            None => self.each_part(digest, |part| self.root.find(self.root.open_file(part)))?,
        };
        if files.is_empty() {
            return Ok(None);
        }
        BlobFile::new(files).map(Some).map_err(|source| self.root.error("examine", &name, source))
    }

    /// The length of a blob that is in parts, in bytes; `None` if there are none.
    pub(super) fn size_of_parts(&self, digest: &Digest) -> Result<Option<u64>> {
        let sizes = self.each_part(digest, |part| self.root.size(part))?;
        Ok((!sizes.is_empty()).then(|| sizes.into_iter().fold(0, u64::saturating_add)))
    }

    /// Calls `look` for the path of each part, until it finds none.
    fn each_part<T>(&self, digest: &Digest, look: impl Fn(&str) -> Result<Option<T>>) -> Result<Vec<T>> {
        let mut found = Vec::new();
        while found.len() < MOST {
            match look(&path(digest, found.len()))? {
                Some(one) => found.push(one),
                None => break,
            }
        }
        Ok(found)
    }

    /// Gives the finished files `staged` of a blob their names.
    pub(super) fn publish_blob(&self, digest: &Digest, staged: &[String]) -> Result<()> {
        if let [one] = staged {
            return durable::publish(&self.root, one, &blob_name(digest));
        }
        durable::make_directory(&self.root, DIRECTORY)?;
        for (number, part) in staged.iter().enumerate() {
            durable::publish(&self.root, part, &path(digest, number))?;
        }
        self.remove_parts(digest, staged.len())
    }

    /// Removes the parts of a blob from the number `first` on.
    pub(super) fn remove_parts(&self, digest: &Digest, first: usize) -> Result<()> {
        for number in first..MOST {
            let part = path(digest, number);
            if self.root.size(&part)?.is_none() {
                break;
            }
            durable::remove(&self.root, &part)?;
        }
        Ok(())
    }

    /// Lists in `record` which of its blobs are in parts.
    pub(super) fn note_parts(&self, record: &mut Record) -> Result<()> {
        let in_parts =
            |blob: &&Blob| self.root.size(&blob_name(&blob.digest)).is_ok_and(|size| size.is_none());
        let mut parts = Vec::new();
        if !self.part_names()?.is_empty() {
            for blob in record.blobs.iter().filter(in_parts) {
                if let Some(size) = self.root.size(&path(&blob.digest, 0))? {
                    parts.push(Parts { digest: blob.digest, size });
                }
            }
        }
        record.parts = parts;
        Ok(())
    }

    /// The names of all files in the directory of parts.
    pub fn part_names(&self) -> Result<Vec<String>> {
        self.root.list(DIRECTORY)
    }

    /// The files in the directory of parts that are of none of the blobs for which `known` is true.
    pub fn stray_parts(&self, known: impl Fn(&Digest) -> bool) -> Result<usize> {
        let stray = |name: &&String| !digest_of(name).is_some_and(|digest| known(&digest));
        Ok(self.part_names()?.iter().filter(stray).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(texts: &[&str]) -> BlobFile {
        let file = |text: &&str| {
            use std::io::Write;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        BlobFile::new(texts.iter().map(file).collect()).unwrap()
    }

    #[test]
    fn parts_are_read_as_one() {
        let mut blob = parts(&["abc", "def", "g"]);
        assert_eq!(blob.size(), 7);
        let mut text = String::new();
        blob.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcdefg");
        blob.skip_to(2);
        text.clear();
        blob.read_to_string(&mut text).unwrap();
        assert_eq!(text, "cdefg");
        let mut middle = [0; 4];
        blob.read_exact_at(&mut middle, 2).unwrap();
        assert_eq!(&middle, b"cdef");
        assert!(blob.read_exact_at(&mut middle, 5).is_err());
    }

    #[test]
    fn only_our_own_names_are_parts() {
        let digest = Digest::of(b"x");
        assert_eq!(digest_of(path(&digest, 7).strip_prefix(".pannier/parts/").unwrap()), Some(digest));
        for bad in
            ["", "abc.000", &digest.hex(), &format!("{}.1", digest.hex()), &format!("{}.a00", digest.hex())]
        {
            assert_eq!(digest_of(bad), None, "{bad}");
        }
    }
}

//! The files of an uncompressed tar, by name: where each lies, so that it can be read at any time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tar::{EntryType, Header, PaxExtensions};

use crate::error::{Error, Result, Side};
use crate::limits::{ARCHIVE_ENTRIES as MAX_ENTRIES, ARCHIVE_HEADER as MAX_EXTENSION};

/// Longest name or link target, in bytes.
const MAX_NAME: usize = 4096;
/// Longest chain of links that is followed.
const MAX_LINKS: usize = 16;
const BLOCK: u64 = 512;

/// Where the content of a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Bytes from the archive's start.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) size: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File(Extent),
    /// The name it leads to, which need not exist.
    Link(String),
}

/// The regular files and links of a tar.
#[derive(Debug)]
pub(super) struct TarIndex {
    entries: BTreeMap<String, Entry>,
}

impl TarIndex {
    /// Reads the headers of the tar `file`; `path` is for messages.
    ///
    /// Refused with a reason: more than 100 000 entries, names that are absolute or climb with `..`,
    /// links that lead out of the archive, devices and fifos, sparse files, one name for two
    /// contents, an archive that is cut short.
    pub(super) fn read(file: &File, path: &Path) -> Result<Self> {
        let length = file.metadata().map_err(Error::io(Side::Source, "read", path))?.len();
        let mut walk = Walk { file, length, at: 0, entries: BTreeMap::new() };
        match walk.run() {
            Ok(()) => Ok(Self { entries: walk.entries }),
            Err(Stopped::Io(error)) => Err(Error::from_io(Side::Source, "read", path.to_owned(), error)),
            Err(Stopped::Refused(reason)) => Err(Error::invalid(Side::Source, path.display(), reason)),
        }
    }

    /// Where the content of `name` lies; links are followed. `None` if nothing is there.
    pub(super) fn find(&self, name: &str) -> Option<Extent> {
        let mut name = inside(name).ok()?;
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name)? {
                Entry::File(extent) => return Some(*extent),
                Entry::Link(target) => name = target.clone(),
            }
        }
        None
    }
}

enum Stopped {
    Io(io::Error),
    Refused(String),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Stopped> {
    Err(Stopped::Refused(reason.into()))
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

struct Walk<'a> {
    file: &'a File,
    length: u64,
    at: u64,
    entries: BTreeMap<String, Entry>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), Stopped> {
        if self.length == 0 {
            return refuse("an empty file");
        }
        let mut extended = Extended::default();
        let mut count = 0;
        while let Some(header) = self.header()? {
            count += 1;
            if count > MAX_ENTRIES {
                return refuse(format!("more than {MAX_ENTRIES} entries"));
            }
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => extended.name = Some(self.long_text(&header)?),
                EntryType::GNULongLink => extended.target = Some(self.long_text(&header)?),
                EntryType::XHeader => self.pax(&header, &mut extended)?,
                EntryType::XGlobalHeader => self.global(&header)?,
                _ => self.entry(&header, kind, std::mem::take(&mut extended))?,
            }
        }
        Ok(())
    }

    /// The next header; `None` at the end, with or without the blocks of zeros that mark it.
    fn header(&mut self) -> Result<Option<Header>, Stopped> {
        if self.at == self.length {
            return Ok(None);
        }
        let mut header = Header::new_old();
        if self.length - self.at < BLOCK {
            return refuse(self.not_a_header());
        }
        self.file.read_exact_at(header.as_mut_bytes(), self.at)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        // The checksum counts its own field, bytes 148 to 155, as spaces (POSIX pax, ustar header).
        let sum = |range: std::ops::Range<usize>| bytes[range].iter().map(|b| u32::from(*b)).sum::<u32>();
        if header.cksum().ok() != Some(sum(0..148) + 8 * u32::from(b' ') + sum(156..512)) {
            return refuse(self.not_a_header());
        }
        self.at += BLOCK;
        Ok(Some(header))
    }

    fn not_a_header(&self) -> String {
        if self.at == 0 {
            "neither a tar nor one compressed with gzip or zstd".into()
        } else {
            format!("damaged: no entry begins at byte {}, where one should", self.at)
        }
    }

    /// Takes the content of `size` bytes that begins here, and moves behind it.
    fn content(&mut self, size: u64) -> Result<Extent, Stopped> {
        let extent = Extent { offset: self.at, size };
        match self.at.checked_add(size) {
            Some(end) if end <= self.length => {
                // The last padding is missing from some archives.
                self.at = end.next_multiple_of(BLOCK).min(self.length);
                Ok(extent)
            }
            _ => refuse(format!("cut short: an entry at byte {} goes on behind the archive's end", self.at)),
        }
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, Stopped> {
        let size = header.entry_size()?;
        if size > MAX_EXTENSION {
            return refuse(format!("a header of {size} bytes, more than the {MAX_EXTENSION} allowed"));
        }
        let extent = self.content(size)?;
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, extent.offset)?;
        Ok(bytes)
    }

    fn long_text(&mut self, header: &Header) -> Result<Vec<u8>, Stopped> {
        let mut bytes = self.extension(header)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn pax(&mut self, header: &Header, extended: &mut Extended) -> Result<(), Stopped> {
        for record in PaxExtensions::new(&self.extension(header)?) {
            let record = record?;
            match record.key_bytes() {
                b"path" => extended.name = Some(record.value_bytes().to_vec()),
                b"linkpath" => extended.target = Some(record.value_bytes().to_vec()),
                b"size" => match record.value().ok().and_then(|text| text.parse().ok()) {
                    Some(size) => extended.size = Some(size),
                    None => return refuse("a size in a pax header is not a number"),
                },
                key if key.starts_with(b"GNU.sparse.") => return refuse(SPARSE),
                _ => {}
            }
        }
        Ok(())
    }

    /// A header for all entries that follow; of use for comments only, in an archive of images.
    fn global(&mut self, header: &Header) -> Result<(), Stopped> {
        for record in PaxExtensions::new(&self.extension(header)?) {
            if matches!(record?.key_bytes(), b"path" | b"linkpath" | b"size") {
                return refuse("a global pax header that names or measures all entries alike");
            }
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, kind: EntryType, extended: Extended) -> Result<(), Stopped> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = text(&name)?;
        let inner = inside(name).or_else(refuse)?;
        let target = extended.target.or_else(|| header.link_name_bytes().map(|t| t.into_owned()));
        let target = || text(target.as_deref().unwrap_or_default());
        let entry = match kind {
            EntryType::Regular | EntryType::Continuous => {
                let extent = self.content(extended.size.map_or_else(|| header.entry_size(), Ok)?)?;
                // Tars from before POSIX mark directories by the slash alone.
                if name.ends_with('/') {
                    return Ok(());
                }
                Entry::File(extent)
            }
            EntryType::Symlink => Entry::Link(beside(&inner, target()?).or_else(refuse)?),
            EntryType::Link => Entry::Link(inside(target()?).or_else(refuse)?),
            EntryType::Directory => return Ok(()),
            EntryType::GNUSparse => return refuse(SPARSE),
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                return refuse(format!("{name:?} is a device or a fifo, which no image archive has"));
            }
            other => return refuse(format!("{name:?} is of the unknown kind {:#x}", other.as_byte())),
        };
        if inner.is_empty() {
            return refuse("an entry without a name");
        }
        match self.entries.get(&inner) {
            None => {
                self.entries.insert(inner, entry);
            }
            Some(first) if self.same(first, &entry)? => {}
            Some(_) => return refuse(format!("{name:?} is in it twice, with different content")),
        }
        Ok(())
    }

    /// Whether two entries of one name say the same; some writers repeat a file.
    fn same(&self, one: &Entry, other: &Entry) -> Result<bool, Stopped> {
        let (Entry::File(one), Entry::File(other)) = (one, other) else { return Ok(one == other) };
        if one.size != other.size {
            return Ok(false);
        }
        let mut buffers = [vec![0; 1 << 16], vec![0; 1 << 16]];
        let mut done = 0;
        while done < one.size {
            let n = (one.size - done).min(1 << 16) as usize;
            let [a, b] = &mut buffers;
            self.file.read_exact_at(&mut a[..n], one.offset + done)?;
            self.file.read_exact_at(&mut b[..n], other.offset + done)?;
            if a[..n] != b[..n] {
                return Ok(false);
            }
            done += n as u64;
        }
        Ok(true)
    }
}

const SPARSE: &str = "it has a sparse file, whose content is not in one piece: write it without --sparse";

fn text(bytes: &[u8]) -> Result<&str, Stopped> {
    if bytes.len() > MAX_NAME {
        return refuse(format!("a name longer than {MAX_NAME} bytes"));
    }
    std::str::from_utf8(bytes).or_else(|_| refuse("a name that is not UTF-8"))
}

/// The name without `.` and doubled slashes; one that is absolute or has `..` is refused.
fn inside(name: &str) -> Result<String, String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("{name:?} climbs with .., which no image archive does")),
            part => parts.push(part),
        }
    }
    if name.starts_with('/') {
        return Err(format!("{name:?} is absolute, which no image archive has"));
    }
    Ok(parts.join("/"))
}

/// The name that a symlink called `link` leads to; one outside the archive is refused.
fn beside(link: &str, target: &str) -> Result<String, String> {
    let out = || format!("{link:?} is a link that leads out of the archive");
    if target.starts_with('/') {
        return Err(out());
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(out)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain_and_stay_inside() {
        assert_eq!(inside("./a//b/.").unwrap(), "a/b");
        assert_eq!(inside("./").unwrap(), "");
        for bad in ["/a", "../a", "a/../b", "/"] {
            assert!(inside(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn links_are_read_from_where_they_are() {
        assert_eq!(beside("id/layer.tar", "../other/layer.tar").unwrap(), "other/layer.tar");
        assert_eq!(beside("a", "b").unwrap(), "b");
        for bad in ["/etc/passwd", "../../x"] {
            assert!(beside("id/layer.tar", bad).is_err(), "{bad} was accepted");
        }
    }
}

//! Tars written entry by entry, wrong ones too.

use std::collections::BTreeSet;

use tar::{EntryType, Header};

/// A tar in the making. Names go into it as they are given, whatever they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tarball {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Tarball {
    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, "", content, content.len() as u64)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(&format!("{name}/"), EntryType::Directory, "", b"", 0)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, b"", 0)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Link, target, b"", 0)
    }

    /// A device, a fifo or whatever else `kind` names.
    pub(crate) fn special(self, name: &str, kind: EntryType) -> Self {
        self.entry(name, kind, "", b"", 0)
    }

    /// An entry of any kind, with content.
    pub(crate) fn entry_of(self, kind: EntryType, name: &str, content: &[u8]) -> Self {
        self.entry(name, kind, "", content, content.len() as u64)
    }

    /// An entry whose header gives another size than its content has.
    pub(crate) fn lying(self, name: &str, content: &[u8], size: u64) -> Self {
        self.entry(name, EntryType::Regular, "", content, size)
    }

    /// Bytes that are no entry.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// Whether an entry of this name was written.
    pub(crate) fn holds(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Writes the end of the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    fn entry(mut self, name: &str, kind: EntryType, target: &str, content: &[u8], size: u64) -> Self {
        self.names.insert(name.to_owned());
        if name.len() > 100 {
            let long = [name.as_bytes(), b"\0"].concat();
            self = self.entry("././@LongLink", EntryType::GNULongName, "", &long, long.len() as u64);
        }
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        fill(&mut old.name, name);
        fill(&mut old.linkname, target);
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }
}

fn fill(field: &mut [u8; 100], text: &str) {
    let length = text.len().min(100);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

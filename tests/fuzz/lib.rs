//! What the targets share: inputs that get past the checksums, which no fuzzer guesses.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use pannier::image::{Descriptor, Digest, Reference};
use pannier::source::{Listed, Source};
use pannier::{Error, Result, Side};

/// The memory in which files are made that only have a path.
pub const MEMORY: &str = "/dev/shm";

/// A commit record's file with `body` in it, its checksum right. `body` begins with a brace.
pub fn sealed(body: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"{\"checksum\":\"sha256:";
    let mut file = [PREFIX, &[b'0'; 64], b"\",", body.get(1..).unwrap_or_default()].concat();
    let checksum = Digest::of(&file).hex();
    file[PREFIX.len()..][..64].copy_from_slice(checksum.as_bytes());
    file
}

/// The documents in `data`, which NUL parts. `@0` in one stands for the digest of the first behind it,
/// `@1` for that of the second, and so on; `#0` and `#1` for their sizes.
pub fn woven(data: &[u8]) -> Vec<Vec<u8>> {
    let mut woven: Vec<Vec<u8>> = Vec::new(); // the last one first
    for document in data.split(|byte| *byte == 0).take(24).collect::<Vec<_>>().into_iter().rev() {
        let mut text = Vec::with_capacity(document.len());
        let mut at = 0;
        while at < document.len() {
            let named = document.get(at + 1).filter(|digit| digit.is_ascii_digit());
            let named = named.and_then(|digit| woven.iter().rev().nth(usize::from(digit - b'0')));
            match (document[at], named) {
                (b'@', Some(other)) => text.extend(Digest::of(other).to_string().bytes()),
                (b'#', Some(other)) => text.extend(other.len().to_string().bytes()),
                (byte, _) => {
                    text.push(byte);
                    at += 1;
                    continue;
                }
            }
            at += 2;
        }
        woven.push(text);
    }
    woven.reverse();
    woven
}

/// A source that holds these blobs; the first is what every name stands for.
#[derive(Debug)]
pub struct Blobs(pub BTreeMap<Digest, Vec<u8>>);

impl Source for Blobs {
    fn name(&self) -> String {
        "blobs".into()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(Vec::new())
    }

    fn resolve(&self, image: &Reference) -> Result<Descriptor> {
        Err(Error::not_found(Side::Source, image))
    }

    fn holds(&self, _: &Reference, blob: &Descriptor) -> Result<bool> {
        Ok(self.0.contains_key(&blob.digest))
    }

    fn open_unverified(&self, image: &Reference, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let bytes = self.0.get(&blob.digest).cloned().ok_or_else(|| self.absent(image, blob))?;
        let mut reader = Cursor::new(bytes);
        reader.set_position(offset);
        Ok(Box::new(reader))
    }
}

/// Makes the checksum of every tar header right, as far as one entry leads to the next.
pub fn mend_tar(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok();
        let size = size.and_then(|text| usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok());
        at += 512 + size.unwrap_or(0).next_multiple_of(512);
    }
}

/// Whether a terminal would do nothing with `text` but show it.
pub fn is_plain(text: &str) -> bool {
    let bidi = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| (c.is_control() && c != '\n') || bidi(c))
}

//! Archives as sources. Names that climb, links, fifos and sparse files have fixtures; here is what is
//! larger than it looks.

use std::fs;

use serde_json::json;
use tar::EntryType;

use super::maker::{Draft, Stick};
use crate::support::carry;
use crate::support::tarball::Tarball;

fn archive(stick: &Stick, name: &str, bytes: &[u8]) -> [String; 2] {
    let path = stick.beside(name);
    fs::write(&path, bytes).unwrap();
    ["oci-archive", "docker-archive"].map(|kind| format!("{kind}:{}", path.display()))
}

/// Refused as both kinds of archive.
fn refused(bytes: &[u8], reason: &str) {
    let stick = Stick::empty();
    for source in archive(&stick, "a.tar", bytes) {
        stick.export_from(&source, 1, reason);
    }
}

fn layout_in_tar() -> Tarball {
    let stick = Draft::default().make().layout();
    let files = carry::files(&stick.path());
    files.into_iter().fold(Tarball::default(), |tar, (path, bytes)| tar.file(path.to_str().unwrap(), &bytes))
}

#[test]
fn a_layout_in_a_tar_of_this_make_is_right() {
    let stick = Stick::empty();
    let [source, _] = archive(&stick, "a.tar", &layout_in_tar().finish());
    stick.export_from(&source, 0, "");
}

#[test]
fn entries_that_no_image_archive_has() {
    refused(&layout_in_tar().file("../../etc/cron.d/x", b"x").finish(), "climbs with ..");
    refused(&layout_in_tar().file("/etc/cron.d/x", b"x").finish(), "is absolute");
    refused(&layout_in_tar().symlink("blobs/x", "/etc/shadow").finish(), "leads out of the archive");
    refused(&layout_in_tar().hard_link("x", "../../etc/shadow").finish(), "climbs with ..");
    for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo] {
        refused(&layout_in_tar().special("dev/x", kind).finish(), "is a device or a fifo");
    }
    refused(&layout_in_tar().special("x", EntryType::GNUSparse).finish(), "sparse");
    refused(&layout_in_tar().file("index.json", b"{}").finish(), "twice, with different content");
    refused(&layout_in_tar().lying("x", b"", 1 << 40).finish(), "cut short");
    refused(&layout_in_tar().file("a\u{1b}[2J\u{202e}/../x", b"").finish(), "climbs with ..");
}

#[test]
fn links_in_a_circle_and_in_a_chain() {
    let circle = layout_in_tar().symlink("manifest.json", "m").symlink("m", "manifest.json").finish();
    let stick = Stick::empty();
    let [_, docker] = archive(&stick, "a.tar", &circle);
    stick.export_from(&docker, 2, "no manifest.json");
}

#[test]
fn more_entries_than_are_read() {
    let mut bytes = Vec::new();
    let one = Tarball::default().directory("d").finish();
    for _ in 0..100_001 {
        bytes.extend(&one[..512]);
    }
    refused(&bytes, "more than 100000 entries");
}

#[test]
fn headers_that_are_larger_than_any_name() {
    let long = vec![b'a'; 70_000];
    let tarball = Tarball::default().entry_of(EntryType::GNULongName, "././@LongLink", &long).finish();
    refused(&tarball, "more than the 65536 allowed");
    let sparse = b"22 GNU.sparse.major=1\n";
    refused(&layout_in_tar().entry_of(EntryType::XHeader, "pax", sparse).file("x", b"").finish(), "sparse");
}

#[test]
fn a_compressed_archive_that_is_a_bomb() {
    // 4 GiB in 128 KiB: it ends at what a layer of unknown size may have.
    refused(&zeros_in_zstd(1 << 15), "a decompression bomb");
    // An entry of a tebibyte is not there, whatever its header says.
    let huge = Tarball::default().lying("blobs/sha256/x", b"", 1 << 40).finish();
    refused(&zstd::encode_all(&huge[..512], 3).unwrap(), "cut short");
}

/// So many blocks of 128 KiB of zeros.
fn zeros_in_zstd(blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for at in 1..=blocks {
        let header = u32::from(at == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn documents_in_an_archive_are_read_as_strictly() {
    let stick = Draft::default().make().layout();
    let with_manifest = |text: &str| {
        let files = carry::files(&stick.path());
        let tarball = files.into_iter().filter(|(path, _)| path.to_str() != Some("index.json"));
        let tarball =
            tarball.fold(Tarball::default(), |tar, (path, bytes)| tar.file(path.to_str().unwrap(), &bytes));
        tarball.file("manifest.json", text.as_bytes()).finish()
    };
    for (text, reason) in [
        ("[{\"Config\":\"a\",\"Config\":\"b\"}]".to_owned(), "is there twice"),
        ("[".repeat(100_000), "nested more than 64 deep"),
        (format!("{}{}", "[".repeat(70), "]".repeat(70)), "nested more than 64 deep"),
        ("\u{feff}[]".to_owned(), "byte order mark"),
        ("[] []".to_owned(), "trailing"),
    ] {
        let [_, docker] = archive(&stick, "a.tar", &with_manifest(&text));
        stick.export_from(&docker, 1, reason);
    }
    let climbing = json!([{ "Config": "../../etc/shadow", "RepoTags": ["a:1"], "Layers": ["/etc/passwd"] }]);
    let [_, docker] = archive(&stick, "a.tar", &with_manifest(&climbing.to_string()));
    stick.export_from(&docker, 1, "../../etc/shadow");
}

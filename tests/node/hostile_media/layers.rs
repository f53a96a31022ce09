//! Compression, layers that lie, and crafted recovery data: H51 to H56, H63.

use std::fs;
use std::io::Write;

use pannier::image::Digest;
use serde_json::json;

use super::maker::{ANY, Draft, LAYER, Stick, blob, ends, tar};
use crate::support::carry::{self, text};

pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A medium and a layout whose layer is `encoded`, which is said to decode to the usual tar.
fn with_layer(media_type: &str, encoded: Vec<u8>) -> (Stick, Stick) {
    let made = Draft { layer_type: media_type.into(), layer: encoded, ..Draft::default() }.make();
    (made.medium(|_| ()), made.layout())
}

/// Refused by `verify --deep` and by an export that recompresses; the status of the latter.
fn both_refuse((medium, layout): (Stick, Stick), status: i32, medium_reason: &str, layout_reason: &str) {
    medium.verify(4, "layer-diff-id", medium_reason);
    layout.export(status, layout_reason);
}

pub(crate) fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zstd frame (RFC 8878) whose header says `window` (as a window descriptor) and, if given, the content's
/// size, and which has `blocks` blocks that stand for 128 KiB of zeros in four bytes each.
pub(crate) fn bomb(window: u8, size: Option<u64>, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, if size.is_some() { 0xc0 } else { 0 }, window];
    frame.extend(size.into_iter().flat_map(u64::to_le_bytes));
    for at in 1..=blocks {
        let header = u32::from(at == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn h51_a_kibibyte_that_says_it_is_a_tebibyte() {
    // As many blocks as a kibibyte holds are 32 MiB, but it says what it says.
    let claims = bomb(0x38, Some(1 << 40), 250);
    assert!(claims.len() <= 1024);
    both_refuse(with_layer(ZSTD, claims.clone()), ANY, "more than 2048 bytes", "");
    // Nor does the record help, whatever it says: nothing of that size comes of it.
    let made = Draft { layer_type: ZSTD.into(), layer: claims, size: 1 << 40, ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "layer-diff-id", "decode");
}

#[test]
fn h51_a_bomb_of_a_tebibyte() {
    // 2^23 blocks of 128 KiB in 32 MiB, which nothing has to decode further than it was said to go.
    let (medium, _) = with_layer(ZSTD, bomb(0x38, None, 1 << 23));
    medium.verify(4, "layer-diff-id", "more than 2048 bytes");
}

#[test]
fn h52_a_window_of_2_gib() {
    // Window descriptor: exponent 21 above 2^10 (RFC 8878, Window_Descriptor).
    both_refuse(with_layer(ZSTD, bomb(21 << 3, None, 1)), ANY, "does not decode", "");
}

#[test]
fn h53_frames_in_a_row_and_what_is_no_frame() {
    let content = tar(b"content");
    let (head, rest) = content.split_at(600);
    // Several frames are a layer, as several members of gzip are; so are frames to be skipped.
    let skippable = [b"\x50\x2a\x4d\x18\x04\0\0\0skip".to_vec(), zstd_of(&content)].concat();
    for (media_type, encoded) in [
        (ZSTD, [zstd_of(head), zstd_of(rest)].concat()),
        (GZIP, [gzip(head), gzip(rest)].concat()),
        (ZSTD, skippable),
    ] {
        let (medium, layout) = with_layer(media_type, encoded);
        medium.verify(0, "", "");
        layout.export(0, "");
    }
    let whole = zstd_of(&content);
    let checked = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&content).unwrap();
        encoder.finish().unwrap()
    };
    let mut wrong = checked.clone();
    *wrong.last_mut().unwrap() ^= 1;
    for encoded in [
        [whole.clone(), b"trailing".to_vec()].concat(),
        whole[..whole.len() - 1].to_vec(),
        wrong,
        [whole.clone(), whole[..7].to_vec()].concat(),
    ] {
        both_refuse(with_layer(ZSTD, encoded), ANY, "does not decode", "");
    }
    // One frame too many is another layer.
    both_refuse(with_layer(ZSTD, [whole.clone(), whole].concat()), ANY, "more than 2048 bytes", "");
}

#[test]
fn h54_a_frame_that_needs_a_dictionary() {
    let dictionary = [tar(b"dictionary"), tar(b"content")].concat();
    let mut encoder = zstd::Encoder::with_dictionary(Vec::new(), 3, &dictionary).unwrap();
    encoder.include_dictid(true).unwrap();
    encoder.write_all(&tar(b"content")).unwrap();
    let raw = encoder.finish().unwrap();
    // The id of a dictionary that nobody has.
    let named = [&[0x28, 0xb5, 0x2f, 0xfd, 0x23, 1, 2, 3, 4][..], &[0, 1, 0, 0]].concat();
    both_refuse(with_layer(ZSTD, named), ANY, "does not decode", "");
    assert!(zstd::decode_all(raw.as_slice()).is_err_or_other(&tar(b"content")));
    let (medium, layout) = with_layer(ZSTD, raw);
    medium.verify(4, "layer-diff-id", "");
    assert_ne!(carry_status(&layout), 0);
}

trait Otherwise {
    fn is_err_or_other(&self, bytes: &[u8]) -> bool;
}

impl Otherwise for std::io::Result<Vec<u8>> {
    fn is_err_or_other(&self, bytes: &[u8]) -> bool {
        self.as_ref().map_or(true, |found| found != bytes)
    }
}

fn carry_status(layout: &Stick) -> i32 {
    let from = format!("oci:{}", layout.path().display());
    let to = layout.beside("to");
    let output = super::maker::bounded(["export", "--from", &from, "--all", "--to", text(&to)]);
    output.status.code().unwrap()
}

#[test]
fn h55_a_layer_that_decodes_to_other_bytes() {
    both_refuse(with_layer(ZSTD, zstd_of(&tar(b"CONTENT"))), 4, "not to its diff_id", "");
    both_refuse(with_layer(LAYER, tar(b"CONTENT")), 4, "not to its diff_id", "");
}

#[test]
fn h56_gzip_that_is_a_bomb_or_not_gzip() {
    let bomb = gzip(&vec![0; 64 << 20]);
    both_refuse(with_layer(GZIP, bomb), ANY, "more than 2048 bytes", "");
    // xz is not decoded at all: as a plain tar it has another digest.
    let xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F\x02\0!\x01".to_vec();
    both_refuse(
        with_layer("application/vnd.oci.image.layer.v1.tar+xz", xz),
        1,
        "",
        "unknown or encrypted type",
    );
}

#[test]
fn h63_recovery_data_that_lead_to_other_bytes() {
    // Two media of the same shape, each with recovery data: the other's are put in the place of the first's.
    let exported = |content: &[u8]| {
        let layer = content.to_vec();
        let made =
            Draft { diff_id: Digest::of(&layer), size: layer.len() as u64, layer, ..Draft::default() }.make();
        let stick = made.layout();
        let (from, to) = (format!("oci:{}", stick.path().display()), stick.beside("to"));
        carry::run(
            0,
            [
                "export",
                "--from",
                &from,
                "--all",
                "--to",
                text(&to),
                "--recovery",
                "50%",
                "--compression",
                "none",
            ],
        );
        (stick, to)
    };
    let (ours, theirs) = (tar(&[b'a'; 40_000]), tar(&[b'b'; 40_000]));
    let ((_first, medium), (_second, other)) = (exported(&ours), exported(&theirs));
    let target = medium.join(blob(&Digest::of(&ours)));
    fs::write(&target, vec![0; ours.len()]).unwrap();
    let recovery = medium.join(".pannier/recovery");
    let mut listed = Vec::new();
    for entry in fs::read_dir(other.join(".pannier/recovery")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.contains(".record.") {
            let bytes = fs::read(entry.path()).unwrap();
            listed.push(json!({ "name": name, "digest": Digest::of(&bytes), "size": bytes.len() }));
            fs::write(recovery.join(name), bytes).unwrap();
        }
    }
    // The record says that they are as they should be.
    let path = medium.join(".pannier/commits/0000000001.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record.as_object_mut().unwrap().remove("checksum");
    record["recovery"]["files"] = json!(listed);
    let sealed = Stick::empty();
    sealed.seal(1, record.to_string().as_bytes());
    fs::copy(sealed.at(".pannier/commits/0000000001.json"), &path).unwrap();
    // What else is wrong is put right.
    let said = ends(3, ["repair", text(&medium)]);
    assert!(said.contains(&Digest::of(&ours).to_string()), "{said}");
    assert_eq!(fs::read(&target).unwrap(), vec![0; ours.len()], "neither theirs nor half of it");
}

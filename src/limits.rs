//! Every limit on what is read from a medium, a source or a file, in one place.
//!
//! A medium is handed around and a registry is somebody else's: what they say about themselves is not
//! believed, and what they can make this program do is bounded. `pannier limits` prints the list.

use serde::Serialize;

/// Largest commit record, in bytes.
pub const RECORD: u64 = 16 << 20;
/// Most commit records that are looked at, newest first.
pub const RECORDS: usize = 64;
/// Largest signature, in bytes.
pub const SIGNATURE: u64 = 64 << 10;
/// Most signatures of one commit record.
pub const SIGNATURES: usize = 16;
/// Largest file of allowed signers, in bytes.
pub const ALLOWED_SIGNERS: usize = 1 << 20;
/// Largest manifest or index, `index.json` among them, in bytes.
pub const MANIFEST: u64 = 4 << 20;
/// Largest image config, in bytes.
pub const CONFIG: u64 = 8 << 20;
/// Deepest nesting of lists and objects in a JSON document.
pub const JSON_DEPTH: usize = 64;
/// Most values in a JSON document, keys not counted.
pub const JSON_VALUES: usize = 1_000_000;
/// Most entries of one JSON object.
pub const JSON_KEYS: usize = 100_000;
/// Most annotations on one document or entry.
pub const ANNOTATIONS: usize = 1000;
/// Longest key in a JSON document, in bytes.
pub const JSON_KEY: usize = 4096;
/// Deepest nesting of indexes that is followed.
pub const INDEX_DEPTH: usize = 4;
/// Most manifests and indexes that are visited for one image, and most images, layers or blobs of a
/// commit record.
pub const NODES: usize = 100_000;
/// Most platforms of one image.
pub const PLATFORMS: usize = 1000;
/// Most layers of one manifest.
pub const LAYERS: usize = 512;
/// Largest blob or layer, in bytes: what [`NODES`] of them take together is still a number.
pub const BLOB: u64 = 64 << 40;
/// Largest zstd window, as the base-2 logarithm of bytes: the memory that decoding may take.
pub const WINDOW: u32 = 27;
/// What a layer of unknown size may be decoded to in any case, in bytes.
pub const DECODED: u64 = 1 << 30;
/// How many times its encoded size a layer of unknown size may be decoded to beyond that. gzip cannot
/// reach it, and zstd does with nothing but repetition.
pub const RATIO: u64 = 2048;
/// Most names in the directory of blobs that are looked at.
pub const FILES: usize = 1_000_000;
/// Most entries of an archive.
pub const ARCHIVE_ENTRIES: usize = 100_000;
/// Largest header of names and attributes in an archive, in bytes.
pub const ARCHIVE_HEADER: u64 = 64 << 10;
/// Largest inventory of a node, in bytes.
pub const INVENTORY: u64 = 16 << 20;

/// Largest layer that a delta starts from or leads to, in bytes of tar: what a zstd window reaches.
pub const DELTA_TAR: u64 = 1 << 31;
/// Largest delta, in bytes; a delta is held in memory while it is made.
pub const DELTA: u64 = 256 << 20;
/// Most recovery data, in percent of the blobs.
pub const RECOVERY_PERCENT: u32 = 100;

/// A limit as it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name; the same in every version.
    pub name: &'static str,
    /// How much.
    pub value: u64,
    /// Of what.
    pub unit: &'static str,
    /// What it is about.
    pub about: &'static str,
}

/// All of them.
pub const ALL: [Limit; 26] = [
    limit("record", RECORD, "bytes", "the commit record of a medium"),
    limit("records", RECORDS as u64, "files", "commit records that are looked at, newest first"),
    limit("signature", SIGNATURE, "bytes", "a signature of a commit record"),
    limit("signatures", SIGNATURES as u64, "files", "signatures of one commit record"),
    limit("allowed-signers", ALLOWED_SIGNERS as u64, "bytes", "the file of allowed signers"),
    limit("manifest", MANIFEST, "bytes", "a manifest or an index, index.json among them"),
    limit("config", CONFIG, "bytes", "an image config"),
    limit("json-depth", JSON_DEPTH as u64, "levels", "nesting in a JSON document"),
    limit("json-values", JSON_VALUES as u64, "values", "a JSON document"),
    limit("json-keys", JSON_KEYS as u64, "keys", "an object of a JSON document"),
    limit("annotations", ANNOTATIONS as u64, "keys", "the annotations of a document or an entry"),
    limit("json-key", JSON_KEY as u64, "bytes", "a key of a JSON document"),
    limit("index-depth", INDEX_DEPTH as u64, "levels", "indexes in an index"),
    limit(
        "nodes",
        NODES as u64,
        "documents",
        "manifests and indexes of an image; images, layers, blobs of a record",
    ),
    limit("platforms", PLATFORMS as u64, "platforms", "an image"),
    limit("layers", LAYERS as u64, "layers", "a manifest"),
    limit("blob", BLOB, "bytes", "a blob or a layer"),
    limit("window", 1 << WINDOW, "bytes", "the zstd window of a layer"),
    limit("decoded", DECODED, "bytes", "a layer of unknown size, decoded; more if the ratio allows it"),
    limit("ratio", RATIO, "times", "a layer of unknown size, decoded against encoded"),
    limit("files", FILES as u64, "names", "the directory of blobs"),
    limit("archive-entries", ARCHIVE_ENTRIES as u64, "entries", "an archive"),
    limit("archive-header", ARCHIVE_HEADER, "bytes", "a header of names in an archive"),
    limit("inventory", INVENTORY, "bytes", "the inventory of a node"),
    limit("delta-tar", DELTA_TAR, "bytes", "a layer that a delta starts from or leads to"),
    limit("delta", DELTA, "bytes", "a delta"),
];

const fn limit(name: &'static str, value: u64, unit: &'static str, about: &'static str) -> Limit {
    Limit { name, value, unit, about }
}

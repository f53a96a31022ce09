//! Images as one archive in the folder from which a distribution imports when it starts.
//!
//! An OCI archive that `ctr images import` of containerd 1.6 and later takes, and so the distributions,
//! which use the same code: the layers as they are on the medium, one entry of `index.json` for each
//! name, digests that upstream published among them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, OCI_INDEX, Platform, Reference};
use crate::import;
use crate::medium::{Medium, Root, durable};
use crate::plan::import::{Choices, Held, ImagePlan, ImportPlan, LayerVerdict, WantedImage};
use crate::progress::{Event, Phase, Run};
use crate::trust::Admitted;

/// Bytes that are moved at a time.
const CHUNK: usize = 1 << 20;
/// A block of a tar.
const BLOCK: u64 = 512;
/// Layers are compressed already: this is for plain ones, and to have the extension's content.
const LEVEL: i32 = 3;

/// What was written.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// How many images are in it.
    pub images: usize,
}

/// Writes images of the medium into one archive in `folder`, which is made if need be; `zstd` compresses
/// it as a whole.
///
/// The file has the medium's id in its name, so that a later one of the same medium takes its place.
/// Until it is complete and on the disk it has a name that nobody imports. Errors: those of reading the
/// images; a layer that is not whole on the medium, but a delta or left out; not enough space.
pub fn archive(
    medium: &Admitted,
    images: &[Reference],
    platform: &Platform,
    folder: &Path,
    zstd: bool,
    run: Run<'_>,
) -> Result<Archive> {
    let mut contents = Contents::default();
    let add = |wanted| medium_only(wanted).map(|image| contents.add(image));
    let record = import::each_wanted(medium, images, platform, run, add)?;
    let bytes: u64 = contents.blobs.iter().map(|blob| blob.size).sum();
    fs::create_dir_all(folder).map_err(Error::io(Side::Node, "create", folder))?;
    require_space(folder, bytes)?;
    let name = format!("pannier-{}.tar{}", &record.medium, if zstd { ".zst" } else { "" });
    let partial = format!(".{name}.partial");
    let path = folder.join(&name);
    let root = Root::open_as(Side::Node, folder)?;
    run.report(Event::Phase { phase: Phase::Carrying, bytes, items: contents.blobs.len() });
    let written = write(medium, &contents, &root, &partial, zstd, run)
        .and_then(|file| durable::settle(&root, &file, &partial, &name));
    if let Err(error) = written {
        // What failed is told; a file that cannot be removed is overwritten by the next run.
        let _ = durable::remove(&root, &partial);
        return Err(error);
    }
    run.report(Event::PhaseEnded { phase: Phase::Carrying });
    let size = path.metadata().map_err(Error::io(Side::Node, "examine", &path))?.len();
    Ok(Archive { path, size, images: contents.images })
}

/// An image as it is for a node that has nothing. An error if the medium does not have all of it.
fn medium_only(wanted: WantedImage) -> Result<ImagePlan> {
    let choices = Choices { unpack: false, pin: false, discard: false };
    let mut plan = ImportPlan::new(vec![wanted], &Held::default(), choices, &HashMap::new())?;
    let image = plan.images.remove(0);
    if image.layers.iter().all(|(_, verdict)| *verdict == LayerVerdict::Send) {
        return Ok(image);
    }
    let names: Vec<String> = image.wanted.names.iter().map(ToString::to_string).collect();
    let reason = "the medium carries layers of it as what differs from others, or leaves them out; an archive \
                  needs them whole: export without --have";
    Err(Error::unfit(names.join(" "), reason))
}

/// What the archive consists of. A set may have thousands of images, of which only this much is kept.
#[derive(Debug, Default)]
struct Contents {
    images: usize,
    /// The entries of `index.json`, one for each name of each image, with commas between them.
    entries: Vec<u8>,
    /// Each once: an image's layers and config before its manifest.
    blobs: Vec<Descriptor>,
    known: HashSet<Digest>,
}

impl Contents {
    fn add(&mut self, image: ImagePlan) {
        self.images += 1;
        for name in image.names.iter().map(|planned| &planned.name) {
            if !self.entries.is_empty() {
                self.entries.push(b',');
            }
            let entry = json!({
                "mediaType": image.target.media_type,
                "digest": image.target.digest,
                "size": image.target.size,
                "platform": image.wanted.platform,
                "annotations": {
                    "io.containerd.image.name": name,
                    "org.opencontainers.image.ref.name": name,
                },
            });
            self.entries.extend_from_slice(entry.to_string().as_bytes());
        }
        let layers = image.layers.into_iter().map(|(layer, _)| layer);
        for blob in layers.chain([image.wanted.config, image.target]) {
            if self.known.insert(blob.digest) {
                self.blobs.push(blob);
            }
        }
    }
}

fn require_space(folder: &Path, needed: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|errno| Error::from_io(Side::Node, "examine", folder.into(), errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed > free {
        return Err(Error::NoSpace { side: Side::Node, path: folder.into(), needed, free });
    }
    Ok(())
}

/// Writes the archive to the file `partial`, which is then still to be brought to the disk.
fn write(
    medium: &Medium,
    contents: &Contents,
    root: &Root,
    partial: &str,
    zstd: bool,
    run: Run<'_>,
) -> Result<File> {
    let file = durable::create(root, partial)?;
    let partial = &root.join(partial);
    let fail = |action: &'static str| Error::io(Side::Node, action, partial);
    if zstd {
        let mut encoder = zstd::Encoder::new(file, LEVEL).map_err(fail("write"))?;
        fill(&mut encoder, medium, contents, partial, run)?;
        encoder.finish().map_err(fail("write"))
    } else {
        let mut file = BufWriter::with_capacity(CHUNK, file);
        fill(&mut file, medium, contents, partial, run)?;
        file.into_inner().map_err(|error| fail("write")(error.into_error()))
    }
}

fn fill(
    out: &mut impl Write,
    medium: &Medium,
    contents: &Contents,
    partial: &Path,
    run: Run<'_>,
) -> Result<()> {
    let fail = || Error::io(Side::Node, "write", partial);
    let begin = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":["#);
    let layout = [br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice()];
    let index = [begin.as_bytes(), &contents.entries, b"]}"];
    for (name, parts) in [("oci-layout", layout.as_slice()), ("index.json", &index)] {
        let size = parts.iter().map(|part| part.len() as u64).sum();
        header(out, name, size).map_err(fail())?;
        parts.iter().try_for_each(|part| out.write_all(part)).map_err(fail())?;
        pad(out, size).map_err(fail())?;
    }
    let mut buffer = vec![0; CHUNK];
    for blob in &contents.blobs {
        let item = blob.digest.to_string();
        run.report(Event::Started { item: &item, bytes: blob.size });
        header(out, &format!("blobs/sha256/{}", blob.digest.hex()), blob.size).map_err(fail())?;
        let mut reader = medium.open_blob(blob)?;
        loop {
            run.check()?;
            let n = reader.read(&mut buffer).map_err(|source| {
                Error::from_io(Side::Medium, "read", medium.blob_path(&blob.digest), source)
            })?;
            if n == 0 {
                break;
            }
            out.write_all(&buffer[..n]).map_err(fail())?;
            run.report(Event::Advanced { item: &item, bytes: n as u64 });
        }
        pad(out, blob.size).map_err(fail())?;
        run.report(Event::Finished { item: &item });
    }
    out.write_all(&[0; 2 * BLOCK as usize]).map_err(fail())
}

/// The header of a file of root's that was never changed: the same images give the same archive.
fn header(out: &mut impl Write, name: &str, size: u64) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    out.write_all(header.as_bytes())
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let rest = size.next_multiple_of(BLOCK) - size;
    out.write_all(&[0; BLOCK as usize][..rest as usize])
}

//! Images made up for tests, right or wrong in one way, described in one sentence:
//!
//! ```ignore
//! image("docker.io/library/app:1").layer(files([("etc/app", "1")])).zstd().flipped()
//! ```
//!
//! The same description gives the same bytes on every run. [`super::layout`] writes them down.

use std::io::Write;

use pannier::image::Digest;

/// An image of one platform.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(super) label: Label,
    pub(super) platform: String,
    pub(super) layers: Vec<Layer>,
    pub(super) docker: bool,
    pub(super) absent: bool,
    pub(super) config_absent: bool,
    pub(super) lying: Option<usize>,
    pub(super) env: String,
}

/// An index: images of several platforms under one name, or other indexes.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(super) label: Label,
    pub(super) entries: Vec<Entry>,
    pub(super) attestations: bool,
    pub(super) docker: bool,
}

/// What a layout or an index lists.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Image(Image),
    Index(Index),
}

/// How the entry is named in `index.json`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    /// Full names; each gives an entry of its own with `io.containerd.image.name`.
    pub(super) names: Vec<String>,
    /// `org.opencontainers.image.ref.name`; with a full name and none given it is the tag, as ctr writes it.
    pub(super) ref_name: Option<String>,
}

/// One layer: its tar, and how it is encoded.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(super) tar: Vec<u8>,
    pub(super) encoding: Encoding,
    pub(super) media_type: Option<String>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) urls: Vec<String>,
    pub(super) defect: Option<Defect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    /// gzip of this level, in this many members.
    Gzip(u32, usize),
    /// zstd of this level, in this many frames.
    Zstd(i32, usize),
}

/// What is wrong with the stored bytes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    Missing,
    Flipped,
    Truncated,
    Grown,
}

/// Begins an image with this full name, for linux/amd64, with no layer.
pub(crate) fn image(name: &str) -> Image {
    Image { label: Label { names: vec![name.into()], ref_name: None }, ..unnamed() }
}

/// Begins an image without a name, for an index or for a layout that has no names.
pub(crate) fn unnamed() -> Image {
    Image {
        label: Label::default(),
        platform: "linux/amd64".into(),
        layers: Vec::new(),
        docker: false,
        absent: false,
        config_absent: false,
        lying: None,
        env: "PATH=/usr/bin:/bin".into(),
    }
}

/// Begins an index with this full name.
pub(crate) fn index(name: &str) -> Index {
    Index { label: Label { names: vec![name.into()], ref_name: None }, ..unnamed_index() }
}

/// Begins an index without a name.
pub(crate) fn unnamed_index() -> Index {
    Index { label: Label::default(), entries: Vec::new(), attestations: false, docker: false }
}

impl Image {
    /// Adds a layer of this tar on top, gzipped until something else is said.
    pub(crate) fn layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(Layer {
            tar,
            encoding: Encoding::Gzip(6, 1),
            media_type: None,
            annotations: Vec::new(),
            urls: Vec::new(),
            defect: None,
        });
        self
    }

    fn top(mut self, change: impl FnOnce(&mut Layer)) -> Self {
        change(self.layers.last_mut().expect("a layer comes first"));
        self
    }

    // The next ones speak of the layer added last.

    pub(crate) fn plain(self) -> Self {
        self.top(|layer| layer.encoding = Encoding::Plain)
    }

    pub(crate) fn gzip(self) -> Self {
        self.top(|layer| layer.encoding = Encoding::Gzip(6, 1))
    }

    /// Other bytes for the same tar, as another tool would have made them.
    pub(crate) fn gzip_level(self, level: u32) -> Self {
        self.top(|layer| layer.encoding = Encoding::Gzip(level, 1))
    }

    pub(crate) fn gzip_members(self, members: usize) -> Self {
        self.top(|layer| layer.encoding = Encoding::Gzip(6, members))
    }

    pub(crate) fn zstd(self) -> Self {
        self.top(|layer| layer.encoding = Encoding::Zstd(3, 1))
    }

    pub(crate) fn zstd_level(self, level: i32) -> Self {
        self.top(|layer| layer.encoding = Encoding::Zstd(level, 1))
    }

    pub(crate) fn zstd_frames(self, frames: usize) -> Self {
        self.top(|layer| layer.encoding = Encoding::Zstd(3, frames))
    }

    /// Lists the layer under this media type, whatever its bytes are.
    pub(crate) fn labelled(self, media_type: &str) -> Self {
        self.top(|layer| layer.media_type = Some(media_type.into()))
    }

    pub(crate) fn annotated(self, key: &str, value: &str) -> Self {
        self.top(|layer| layer.annotations.push((key.into(), value.into())))
    }

    /// Makes the layer one that is not to be distributed and lies at `url`; its blob is left out.
    pub(crate) fn foreign(self, url: &str) -> Self {
        let media_type = if self.docker {
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        } else {
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        };
        self.top(|layer| {
            layer.media_type = Some(media_type.into());
            layer.urls.push(url.into());
            layer.defect = Some(Defect::Missing);
        })
    }

    /// Leaves the layer's blob out.
    pub(crate) fn missing(self) -> Self {
        self.top(|layer| layer.defect = Some(Defect::Missing))
    }

    /// Changes one bit in the middle of the layer's stored blob.
    pub(crate) fn flipped(self) -> Self {
        self.top(|layer| layer.defect = Some(Defect::Flipped))
    }

    pub(crate) fn truncated(self) -> Self {
        self.top(|layer| layer.defect = Some(Defect::Truncated))
    }

    pub(crate) fn grown(self) -> Self {
        self.top(|layer| layer.defect = Some(Defect::Grown))
    }

    /// Lets the config give another diff_id for the layer than its tar has.
    pub(crate) fn lying_diff_id(mut self) -> Self {
        self.lying = Some(self.layers.len() - 1);
        self
    }

    // From here on, of the whole image.

    pub(crate) fn platform(mut self, platform: &str) -> Self {
        self.platform = platform.into();
        self
    }

    /// Writes Docker's media types instead of OCI's. Comes before the layers.
    pub(crate) fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// Sets one environment variable, so that images with the same layers have different configs.
    pub(crate) fn env(mut self, variable: &str) -> Self {
        self.env = variable.into();
        self
    }

    /// Gives the image one more full name.
    pub(crate) fn also(mut self, name: &str) -> Self {
        self.label.names.push(name.into());
        self
    }

    /// Takes away the full name, and writes this `org.opencontainers.image.ref.name`.
    pub(crate) fn ref_name(mut self, name: &str) -> Self {
        self.label = Label { names: Vec::new(), ref_name: Some(name.into()) };
        self
    }

    /// Lists the image, but stores none of its blobs: another platform's, as a pull leaves it.
    pub(crate) fn absent(mut self) -> Self {
        self.absent = true;
        self
    }

    pub(crate) fn config_missing(mut self) -> Self {
        self.config_absent = true;
        self
    }
}

impl Index {
    pub(crate) fn with(mut self, entry: impl Into<Entry>) -> Self {
        self.entries.push(entry.into());
        self
    }

    /// Adds an attestation for each image that is present, listed as `unknown/unknown`, as BuildKit does.
    pub(crate) fn attested(mut self) -> Self {
        self.attestations = true;
        self
    }

    pub(crate) fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    pub(crate) fn also(mut self, name: &str) -> Self {
        self.label.names.push(name.into());
        self
    }

    pub(crate) fn ref_name(mut self, name: &str) -> Self {
        self.label = Label { names: Vec::new(), ref_name: Some(name.into()) };
        self
    }
}

impl From<Image> for Entry {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

impl From<Index> for Entry {
    fn from(index: Index) -> Self {
        Self::Index(index)
    }
}

impl Layer {
    /// The digest of the tar.
    pub(crate) fn diff_id(&self) -> Digest {
        Digest::of(&self.tar)
    }

    /// The bytes of the layer as it travels, without its defect.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.encoding.apply(&self.tar)
    }
}

impl Encoding {
    /// Encodes `bytes`, in as many members or frames as were asked for.
    pub(crate) fn apply(self, bytes: &[u8]) -> Vec<u8> {
        let parts = |count: usize| bytes.chunks(bytes.len().div_ceil(count).max(1));
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Gzip(level, members) => parts(members).flat_map(|part| gzip(part, level)).collect(),
            Self::Zstd(level, frames) => {
                parts(frames).flat_map(|part| zstd::bulk::compress(part, level).unwrap()).collect()
            }
        }
    }
}

pub(super) fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The tar of these files.
pub(crate) fn files<const N: usize>(files: [(&str, &str); N]) -> Vec<u8> {
    tar_of(files.map(|(path, content)| (path.to_owned(), content.as_bytes().to_vec())))
}

/// The tar of one file of `size` bytes that compress to about half; another `seed`, other bytes.
pub(crate) fn noise(path: &str, seed: u64, size: usize) -> Vec<u8> {
    tar_of([(path.to_owned(), half_random(seed, size))])
}

/// The tar of these files, owned by root, without times.
pub(crate) fn tar_of(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        append(&mut archive, &path, &content);
    }
    archive.into_inner().unwrap()
}

pub(super) fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content).unwrap();
}

/// Bytes of which half the bits are random (xorshift), the same for the same seed.
pub(crate) fn half_random(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend((state & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

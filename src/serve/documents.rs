//! The manifests and indexes of images, and whether everything that they list is there.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::shelf::Entry;
use crate::error::Result;
use crate::image::json::{self, Keys};
use crate::image::{Descriptor, Digest, Document, MAX_INDEX_DEPTH, MAX_MANIFEST, MediaKind, kind};
use crate::limits::NODES;
use crate::record::Record;

/// What was read of the documents of some records.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Sizes of all blobs that the records list.
    blobs: HashMap<Digest, u64>,
    known: HashMap<Digest, Known>,
    complete: HashSet<Digest>,
}

#[derive(Clone, Debug)]
struct Known {
    descriptor: Descriptor,
    children: Vec<Descriptor>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
}

impl Documents {
    /// Takes note of the blobs of a record. For all records, before any document is read.
    pub fn note(&mut self, record: &Record) {
        self.blobs.extend(record.blobs.iter().map(|blob| (blob.digest, blob.size)));
    }

    /// Reads every document of a record with `read`, which proves what it returns. What cannot be read is
    /// returned, with the reason; it counts as not there.
    pub fn read(
        &mut self,
        record: &Record,
        mut read: impl FnMut(&Descriptor) -> Result<Vec<u8>>,
    ) -> Vec<(Digest, String)> {
        let mut failed = Vec::new();
        for image in &record.images {
            let platforms = image.platforms.iter().flat_map(|one| [&one.original, &one.carried]);
            let referrers =
                image.referrers.iter().flat_map(|one| std::iter::once(&one.descriptor).chain(&one.blobs));
            for descriptor in [&image.original, &image.carried].into_iter().chain(platforms).chain(referrers)
            {
                self.follow(descriptor, MAX_INDEX_DEPTH + 1, &mut read, &mut failed);
            }
        }
        failed
    }

    fn follow(
        &mut self,
        descriptor: &Descriptor,
        depth: usize,
        read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>>,
        failed: &mut Vec<(Digest, String)>,
    ) {
        let is_document = matches!(kind(&descriptor.media_type), MediaKind::Index | MediaKind::Manifest);
        let listed = self.blobs.get(&descriptor.digest) == Some(&descriptor.size);
        let seen = self.known.contains_key(&descriptor.digest)
            || failed.iter().any(|(digest, _)| *digest == descriptor.digest);
        if !is_document
            || !listed
            || seen
            || depth == 0
            || self.known.len() >= NODES
            || descriptor.size > MAX_MANIFEST
        {
            return;
        }
        let known = read(descriptor)
            .map_err(|error| error.with_cause())
            .and_then(|bytes| Known::parse(descriptor, &bytes));
        match known {
            Ok(known) => {
                let children = known.children.clone();
                self.known.insert(descriptor.digest, known);
                children.iter().for_each(|child| self.follow(child, depth - 1, read, failed));
                // Children are all known by now, so that this needs no recursion later.
                if self.all_there(&children) {
                    self.complete.insert(descriptor.digest);
                }
            }
            Err(reason) => failed.push((descriptor.digest, reason)),
        }
    }

    fn all_there(&self, children: &[Descriptor]) -> bool {
        children.iter().all(|child| match kind(&child.media_type) {
            MediaKind::Index | MediaKind::Manifest => self.complete(child),
            _ => self.blobs.get(&child.digest) == Some(&child.size),
        })
    }

    /// Whether a document and everything below it is there.
    pub fn complete(&self, document: &Descriptor) -> bool {
        self.complete.contains(&document.digest)
    }

    /// The descriptor of a document, with its media type.
    pub fn descriptor(&self, digest: &Digest) -> Option<&Descriptor> {
        self.known.get(digest).map(|known| &known.descriptor)
    }

    /// Everything that a document leads to: the documents, it among them and each after what it lists, and the
    /// other blobs. For documents of which everything is there.
    pub fn graph(&self, root: &Descriptor) -> (Vec<Descriptor>, Vec<Descriptor>) {
        let (mut documents, mut blobs, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        self.gather(root, &mut documents, &mut blobs, &mut seen);
        (documents, blobs)
    }

    fn gather(
        &self,
        at: &Descriptor,
        documents: &mut Vec<Descriptor>,
        blobs: &mut Vec<Descriptor>,
        seen: &mut HashSet<Digest>,
    ) {
        if !seen.insert(at.digest) {
            return;
        }
        match self.known.get(&at.digest) {
            Some(known) => {
                known.children.iter().for_each(|child| self.gather(child, documents, blobs, seen));
                documents.push(known.descriptor.clone());
            }
            None => blobs.push(at.clone()),
        }
    }

    /// A referrer, as it is listed: with what its own manifest says.
    pub(crate) fn entry(&self, descriptor: &Descriptor, artifact_type: Option<String>) -> Entry {
        let known = self.known.get(&descriptor.digest);
        Entry {
            descriptor: descriptor.clone(),
            artifact_type: known.and_then(|known| known.artifact_type.clone()).or(artifact_type),
            annotations: known.map(|known| known.annotations.clone()).unwrap_or_default(),
        }
    }
}

impl Known {
    fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct About {
            artifact_type: Option<String>,
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
        }
        let (children, config) = match Document::parse(&descriptor.media_type, bytes)? {
            Document::Index(index) => {
                (index.manifests.into_iter().map(|child| child.descriptor).collect(), None)
            }
            Document::Manifest(manifest) => {
                let config = manifest.config.clone();
                let mut children = manifest.descriptors();
                children.push(config.clone());
                (children, Some(config.media_type.to_string()))
            }
        };
        let about: About = json::read(bytes, Keys::Manifest).map_err(|error| error.to_string())?;
        Ok(Self {
            descriptor: descriptor.clone(),
            children,
            artifact_type: about.artifact_type.or(config),
            annotations: about.annotations.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
    use crate::record::{Blob, Image, Role};

    struct Made {
        record: Record,
        bytes: HashMap<Digest, Vec<u8>>,
    }

    impl Made {
        fn blob(&mut self, media_type: &str, bytes: &[u8], role: Role) -> Descriptor {
            let descriptor = Descriptor::of(media_type, bytes);
            self.record.blobs.push(Blob { digest: descriptor.digest, size: descriptor.size, role });
            self.bytes.insert(descriptor.digest, bytes.to_vec());
            descriptor
        }

        fn manifest(&mut self, layer: &Descriptor) -> Descriptor {
            let config = self.blob(OCI_CONFIG, b"{}", Role::Config);
            let text = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
            self.blob(OCI_MANIFEST, text.to_string().as_bytes(), Role::Manifest)
        }

        fn index(&mut self, manifests: &[&Descriptor]) -> Descriptor {
            let text =
                serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
            self.blob(OCI_INDEX, text.to_string().as_bytes(), Role::Index)
        }

        fn documents(&self) -> Documents {
            let mut documents = Documents::default();
            documents.note(&self.record);
            let read = |blob: &Descriptor| Ok(self.bytes[&blob.digest].clone());
            assert_eq!(documents.read(&self.record, read), []);
            documents
        }
    }

    #[test]
    fn a_graph_is_complete_where_nothing_below_it_is_missing() {
        let mut made = Made { record: Record::empty("m".into()), bytes: HashMap::new() };
        let layer = made.blob("application/vnd.oci.image.layer.v1.tar+zstd", b"layer", Role::Layer);
        let absent = Descriptor::of("application/vnd.oci.image.layer.v1.tar+gzip", b"as upstream has it");
        let (carried, original) = (made.manifest(&layer), made.manifest(&absent));
        let other = Descriptor::of(OCI_MANIFEST, b"of another platform");
        let (whole, partial) = (made.index(&[&carried]), made.index(&[&carried, &other]));
        let image = |original: &Descriptor, carried: &Descriptor| Image {
            names: ["a.io/b:1".parse().unwrap()].into(),
            original: original.clone(),
            carried: carried.clone(),
            platforms: Vec::new(),
            sequence: 1,
            referrers: Vec::new(),
        };
        made.record.images = vec![image(&original, &carried), image(&partial, &whole)];
        let documents = made.documents();
        assert!(documents.complete(&carried) && documents.complete(&whole));
        let (order, blobs) = documents.graph(&whole);
        let order: Vec<Digest> = order.iter().map(|document| document.digest).collect();
        assert_eq!(order, [carried.digest, whole.digest], "children first");
        assert_eq!(blobs.len(), 2);
        assert!(!documents.complete(&original), "its layer is not there");
        assert!(!documents.complete(&partial), "a platform is not there");
        assert!(documents.descriptor(&partial.digest).is_some(), "it can be had by its digest all the same");
        let shelf = super::super::shelf::Shelf::of([&made.record], &documents);
        assert_eq!(shelf.tag("a.io/b", "1"), Some(&super::super::shelf::Tag::At(carried.digest)));
    }
}

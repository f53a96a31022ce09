//! Following documents that name each other, without going round or on for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};

use super::{Descriptor, Digest, Index, MAX_INDEX_DEPTH, MediaKind, Platform, kind};
use crate::limits::NODES;

/// What is listed under each digest, wherever it is listed.
///
/// A digest stands for one blob of one length and of one kind: what lists it as something else would have
/// one program take for a manifest what another unpacks.
#[derive(Debug, Default)]
pub(crate) struct Listed(BTreeMap<Digest, (u64, Option<Discriminant<MediaKind>>)>);

impl Listed {
    /// Takes note of `blob`; whether it was not listed before.
    ///
    /// The error is a sentence: it was listed with another size or as something else, or more than
    /// [`NODES`] blobs are listed.
    pub(crate) fn note(&mut self, blob: &Descriptor) -> Result<bool, String> {
        let found = kind(&blob.media_type);
        let found = (found != MediaKind::Other).then(|| discriminant(&found));
        if let Some((size, known)) = self.0.get_mut(&blob.digest) {
            if *size != blob.size {
                return Err(format!("{} is listed with {size} bytes and with {}", blob.digest, blob.size));
            }
            if let (Some(known), Some(found)) = (&known, &found)
                && known != found
            {
                return Err(format!("{} is listed as two kinds of blob", blob.digest));
            }
            *known = known.or(found);
            return Ok(false);
        }
        if self.0.len() == NODES {
            return Err(format!("more than {NODES} blobs are listed"));
        }
        self.0.insert(blob.digest, (blob.size, found));
        Ok(true)
    }
}

/// What a document on the way turned out to be.
#[derive(Debug)]
pub(crate) enum Step {
    /// An index, whose entries are looked at.
    Index(Index),
    /// It counts as leading there.
    Leads,
    /// It leads nowhere.
    DeadEnd,
}

/// Whether `from` is the manifest `to`, or an index that leads to it by way of indexes that are nested at
/// most [`MAX_INDEX_DEPTH`] deep. `read` is given each index once, and how deep it is; entries beyond the
/// first [`NODES`] are not looked at.
pub(crate) fn leads<E>(
    from: &Descriptor,
    to: &Digest,
    mut read: impl FnMut(&Descriptor, usize) -> Result<Step, E>,
) -> Result<bool, E> {
    let mut level = vec![from.clone()];
    let mut seen = BTreeSet::new();
    let mut left = NODES;
    for depth in 0..=MAX_INDEX_DEPTH {
        if level.iter().any(|document| document.digest == *to) {
            return Ok(true);
        }
        let mut next = Vec::new();
        for document in level {
            let is_index = depth == 0 || kind(&document.media_type) == MediaKind::Index;
            if !is_index || left == 0 || !seen.insert(document.digest) {
                continue;
            }
            match read(&document, depth)? {
                Step::Index(index) => {
                    let some = index.manifests.into_iter().take(left).map(|child| child.descriptor);
                    let before = next.len();
                    next.extend(some);
                    left -= next.len() - before;
                }
                Step::Leads => return Ok(true),
                Step::DeadEnd => {}
            }
        }
        level = next;
    }
    Ok(level.iter().any(|document| document.digest == *to))
}

/// Who says that a manifest is the one for a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// An index lists it for that platform.
    ByIndex,
    /// No index names a platform for it, so that its config has to.
    ByConfig,
    /// Nobody: it is not reached, or is listed for other platforms only.
    Not,
}

/// Who gives the manifest `to` for `platform`, from `original` down. `read` as for [`leads`].
///
/// Where an index names a platform, containerd goes by that and never by the config, and so does an export.
pub(crate) fn given<E>(
    original: &Descriptor,
    platform: &Platform,
    to: &Digest,
    mut read: impl FnMut(&Descriptor, usize) -> Result<Step, E>,
) -> Result<Given, E> {
    let mut by_index = false;
    let reached = leads(original, to, |document, depth| {
        let step = read(document, depth)?;
        let Step::Index(mut index) = step else { return Ok(step) };
        index.manifests.retain(|child| child.platform.as_ref().is_none_or(|listed| listed == platform));
        by_index |= { index.manifests.iter() }
            .any(|child| child.descriptor.digest == *to && child.platform.is_some());
        Ok(Step::Index(index))
    })?;
    Ok(match (reached, by_index) {
        (false, _) => Given::Not,
        (true, true) => Given::ByIndex,
        (true, false) => Given::ByConfig,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
    use crate::image::{Child, Document};

    fn index(children: &[&Descriptor]) -> Vec<u8> {
        let child = |d: &&Descriptor| {
            format!(r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#, d.media_type, d.digest, d.size)
        };
        format!(r#"{{"manifests":[{}]}}"#, children.iter().map(child).collect::<Vec<_>>().join(","))
            .into_bytes()
    }

    /// `levels` indexes, each of which lists the next twice; the last lists `bottom`.
    fn diamond(levels: usize, bottom: &Descriptor) -> (Descriptor, BTreeMap<Digest, Vec<u8>>) {
        let (mut top, mut blobs) = (bottom.clone(), BTreeMap::new());
        for _ in 0..levels {
            let bytes = index(&[&top, &top]);
            top = Descriptor::of(OCI_INDEX, &bytes);
            blobs.insert(top.digest, bytes);
        }
        (top, blobs)
    }

    #[test]
    fn a_diamond_is_read_once_a_level_and_only_so_deep() {
        let bottom = Descriptor::of(OCI_MANIFEST, b"{}");
        for (levels, expected, read_at_most) in
            [(1, true, 1), (MAX_INDEX_DEPTH + 1, true, 5), (MAX_INDEX_DEPTH + 2, false, 5), (40, false, 5)]
        {
            let (top, blobs) = diamond(levels, &bottom);
            let mut reads = 0;
            let found = leads::<String>(&top, &bottom.digest, |document, _| {
                reads += 1;
                match Document::parse(&document.media_type, &blobs[&document.digest])? {
                    Document::Index(index) => Ok(Step::Index(index)),
                    Document::Manifest(_) => Ok(Step::DeadEnd),
                }
            });
            assert_eq!(found, Ok(expected), "{levels}");
            assert!(reads <= read_at_most, "{reads} for {levels}");
        }
    }

    #[test]
    fn a_wide_index_does_not_grow_without_end() {
        let bottom = Descriptor::of(OCI_MANIFEST, b"{}");
        let child = |n: u64| Child {
            descriptor: Descriptor { size: n, ..Descriptor::of(OCI_INDEX, &n.to_le_bytes()) },
            platform: None,
            annotations: BTreeMap::new(),
            urls: Vec::new(),
        };
        let wide = Index { manifests: (0..50_000).map(child).collect() };
        let mut reads = 0;
        let found = leads::<()>(&child(0).descriptor, &bottom.digest, |_, _| {
            reads += 1;
            Ok(Step::Index(wide.clone()))
        });
        assert_eq!(found, Ok(false));
        assert!(reads <= 3, "{reads}");
    }

    #[test]
    fn a_digest_is_one_blob_of_one_kind() {
        let mut listed = Listed::default();
        let blob = Descriptor::of(OCI_MANIFEST, b"{}");
        assert_eq!(listed.note(&blob), Ok(true));
        assert_eq!(listed.note(&blob), Ok(false));
        assert_eq!(
            listed.note(&Descriptor { media_type: "application/x".into(), ..blob.clone() }),
            Ok(false)
        );
        assert!(
            listed.note(&Descriptor { size: 3, ..blob.clone() }).unwrap_err().contains("2 bytes and with 3")
        );
        let config = Descriptor { media_type: OCI_CONFIG.into(), ..blob };
        assert!(listed.note(&config).unwrap_err().contains("two kinds"));
    }
}

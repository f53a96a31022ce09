//! From what a name points at to the manifest that this node would run.

use super::Node;
use crate::content;
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Document, MAX_INDEX_DEPTH, MAX_MANIFEST, Manifest};
use crate::plan::import::runs_on;

/// The manifest that `target`, an index or manifest of the node, comes down to on the node's platform.
///
/// `None` where no entry fits, or indexes are nested too deeply. Errors: a document is absent or damaged.
pub(crate) fn manifest(node: &Node, target: &Descriptor) -> Result<Option<Manifest>> {
    let mut target = target.clone();
    for _ in 0..=MAX_INDEX_DEPTH {
        let document = Document::parse(&target.media_type, &read(node, &target, MAX_MANIFEST)?)
            .map_err(|reason| Error::invalid(Side::Node, target.digest, reason))?;
        let index = match document {
            Document::Manifest(manifest) => return Ok(Some(manifest)),
            Document::Index(index) => index,
        };
        let best = runs_on(&node.platform).into_iter().find_map(|platform| {
            index.manifests.iter().find(|child| child.platform.as_ref() == Some(&platform))
        });
        let Some(best) = best else { return Ok(None) };
        target = best.descriptor.clone();
    }
    Ok(None)
}

/// Reads a document of the node and proves it.
pub(crate) fn read(node: &Node, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
    content::read_all(node.client.read_blob(blob, 0)?, blob, Side::Node, limit)
}

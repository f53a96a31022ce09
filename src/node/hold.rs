//! What an import finds on the node, kept until names hold it; and what it put there, given back.

use std::collections::HashSet;

use super::{PREFIX, rebuild};
use crate::containerd::{Client, Resource};
use crate::error::{Error, Result, Side};
use crate::image::Digest;
use crate::plan::import::{ImportPlan, LayerVerdict};

/// What the plan counts on, beside what is `sent`, must not be collected while it is carried out.
pub(super) fn what_is_there(client: &Client, plan: &ImportPlan, sent: &HashSet<Digest>) -> Result<()> {
    let mut held = HashSet::new();
    rebuild::hold_bases(client, plan)?;
    for image in plan.images.iter().filter(|image| !image.is_done) {
        let layers = image.layers.iter().filter(|(_, verdict)| *verdict != LayerVerdict::Discarded);
        let blobs = layers.map(|(layer, _)| layer).chain(image.documents());
        for blob in blobs.filter(|blob| !sent.contains(&blob.digest)) {
            if held.insert(blob.digest) {
                client.hold_here(&Resource::blob(blob.digest))?;
                if client.blob(blob.digest)?.is_none() {
                    return Err(Error::Refused {
                        side: Side::Node,
                        action: format!("keeping blob {}", blob.digest),
                        reason: "containerd has just collected it; run the import again".into(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Throws away what an import has sent of blobs that are not complete: on a full disk, nothing else
/// can be done before that. What another client writes at the moment stays.
pub(crate) fn abort_unfinished(client: &Client, plan: &ImportPlan) {
    let ours: Vec<String> = plan.sends.iter().map(|send| format!("{PREFIX}{}", send.blob.digest)).collect();
    // Asked once: containerd looks at every unfinished blob each time. All of it is best effort, as the
    // lease takes them along as well.
    for partial in client.partials(PREFIX).unwrap_or_default() {
        if ours.iter().any(|usual| partial.reference.starts_with(usual)) {
            let _ = client.abort(&partial.reference);
        }
    }
}

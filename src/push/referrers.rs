//! Signatures, attestations and SBOMs: after what they are about.

use serde_json::{Value, json};

use super::Work;
use super::plan::{Planned, PlannedReferrer};
use crate::error::{Error, Result, Side};
use crate::image::{Descriptor, Digest, MAX_MANIFEST, OCI_INDEX, Reference};

impl Work<'_> {
    /// Sends what refers to an image and is not there yet; how many that were.
    pub(super) fn referrers(&self, image: &Planned, target: &Reference) -> Result<usize> {
        let mut sent = 0;
        for referrer in &image.referrers {
            self.run.check()?;
            sent += usize::from(self.referrer(referrer, target)?);
        }
        Ok(sent)
    }

    fn referrer(&self, referrer: &PlannedReferrer, target: &Reference) -> Result<bool> {
        let root = &referrer.entry.descriptor;
        let tagged = referrer.tag.as_ref().and_then(|tag| with_tag(target, tag));
        let there = match &tagged {
            Some(tagged) => self.registry.tag(tagged)? == Some(root.digest),
            None => self.registry.has_manifest(target, root.digest)?,
        };
        if there {
            return Ok(false);
        }
        self.blobs(&referrer.blobs, target)?;
        let below = referrer.documents.iter().filter(|document| document.digest != root.digest);
        below.into_iter().try_for_each(|document| self.document(document, target))?;
        let bytes = self.medium.read_blob(root, MAX_MANIFEST)?;
        let name = referrer.tag.clone().unwrap_or_else(|| root.digest.to_string());
        let written = self.registry.put_manifest(target, &name, root, &bytes)?;
        if tagged.is_none() && !written.subject_noted {
            self.list_by_tag(referrer, target)?;
        }
        Ok(true)
    }

    /// Lists it in the index that stands in for the referrers API where a registry has none (distribution-spec,
    /// Referrers Tag Schema).
    fn list_by_tag(&self, referrer: &PlannedReferrer, target: &Reference) -> Result<()> {
        let tag = fallback_tag(&referrer.subject);
        let listed = self.registry.read_tag(target, &tag)?;
        let index = with_entry(listed.as_deref(), &json!(referrer.entry)).map_err(|reason| {
            Error::invalid(Side::Registry, format!("{}:{tag}", target.repository()), reason)
        })?;
        let Some(bytes) = index else { return Ok(()) };
        self.registry.put_manifest(target, &tag, &Descriptor::of(OCI_INDEX, &bytes), &bytes).map(drop)
    }
}

fn with_tag(target: &Reference, tag: &str) -> Option<Reference> {
    format!("{}:{tag}", target.repository()).parse().ok()
}

fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// The index with one more entry; `None` where it has it already.
fn with_entry(listed: Option<&[u8]>, entry: &Value) -> Result<Option<Vec<u8>>, String> {
    let empty = || json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
    let mut index: Value = match listed {
        None => empty(),
        Some(bytes) => serde_json::from_slice(bytes).map_err(|_| "it is no index of referrers")?,
    };
    let manifests =
        index.get_mut("manifests").and_then(Value::as_array_mut).ok_or("it is no index of referrers")?;
    if manifests.iter().any(|known| known["digest"] == entry["digest"]) {
        return Ok(None);
    }
    manifests.push(entry.clone());
    Ok(Some(index.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_added_once_and_the_others_stay() {
        let first = with_entry(None, &json!({"digest": "1"})).unwrap().unwrap();
        let second = with_entry(Some(&first), &json!({"digest": "2"})).unwrap().unwrap();
        let index: Value = serde_json::from_slice(&second).unwrap();
        assert_eq!(index["manifests"], json!([{"digest": "1"}, {"digest": "2"}]));
        assert_eq!(index["mediaType"], OCI_INDEX);
        assert_eq!(with_entry(Some(&second), &json!({"digest": "1"})).unwrap(), None);
        assert!(with_entry(Some(b"[]"), &json!({"digest": "1"})).is_err());
        assert!(with_entry(Some(b"<html>"), &json!({"digest": "1"})).is_err());
    }
}

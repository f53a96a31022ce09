//! The last step of an image: labels, names, and CRI's word that the names work.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Node, label};
use crate::containerd::{self, Client, CriImage, label as known};
use crate::error::{Error, Result, Side};
use crate::image::{Digest, Reference};
use crate::plan::import::{ImagePlan, Lists, NameVerdict, PlannedName, document_labels};
use crate::progress::{Event, Run};

/// How long CRI may take to see a name; it answers within milliseconds, but retries after errors.
const CRI_PATIENCE: Duration = Duration::from_secs(60);

/// What is said about every name that is made.
#[derive(Clone, Debug)]
pub struct Naming {
    /// The medium's id.
    pub medium: String,
    /// Whether kubelet is to leave the images alone.
    pub pin: bool,
}

/// What is left to do for an image that has its names.
#[derive(Debug)]
pub(super) struct Named {
    labels: HashMap<String, String>,
    /// Images of which a name was taken.
    replaced: HashSet<Digest>,
}

/// Names an image, all of which is there: labels bottom up, where a blob was not `sent` with them, then the names.
pub(super) fn name(
    node: &Node,
    client: &Client,
    image: &ImagePlan,
    naming: &Naming,
    sent: impl Fn(Digest) -> bool,
    run: Run<'_>,
) -> Result<Named> {
    for blob in image.documents().map(|blob| blob.digest).filter(|blob| !sent(*blob)) {
        let mut labels = content_labels(node, image, blob);
        if image.discards && blob == image.target.digest {
            // An empty value takes a label away: what was kept so far no longer is.
            let kept = (0..image.layers.len()).map(|n| format!("{}.l.{n}", known::GC_CONTENT));
            labels.extend(kept.map(|key| (key, String::new())));
        }
        client.label_blob(blob, labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))?;
    }
    let config = image.wanted.config.digest;
    let mut labels = HashMap::from([
        (label::MEDIUM.to_owned(), naming.medium.clone()),
        (label::SEQUENCE.to_owned(), image.wanted.sequence.to_string()),
        (label::IMAGE.to_owned(), config.to_string()),
    ]);
    let pin = naming.pin.then_some((known::PINNED, known::PINNED_VALUE));
    let managed = node.cri.then_some((known::MANAGED, known::MANAGED_VALUE));
    // The pin counts for the image when all its records have it.
    let marks =
        pin.into_iter().chain(managed).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if node.cri {
        make_own_record(client, image, &marks)?;
    }
    labels.extend(marks);
    let mut replaced = HashSet::new();
    for PlannedName { name, target, verdict } in &image.names {
        match verdict {
            NameVerdict::Present => continue,
            NameVerdict::Pin => {
                // Its target stays; the image id is what a later unpinning goes by.
                let image = config.to_string();
                client.label_image(name, [(known::PINNED, known::PINNED_VALUE), (label::IMAGE, &image)])?;
                continue;
            }
            NameVerdict::Add => {
                if client.create_image(name, target, &labels)? {
                    continue;
                }
            }
            NameVerdict::Correct => {}
            NameVerdict::Move(moved) => {
                run.report(Event::Warning(&format!("{name} stood for {} and was moved", moved.from.digest)));
                replaced.extend(moved.was.filter(|was| *was != config));
            }
        }
        client.set_image(name, target, &labels)?;
    }
    Ok(Named { labels, replaced })
}

/// Makes the record that CRI keeps of each image, named by the image's id, just as CRI does on seeing a name that is
/// not marked as managed. CRI would rewrite every name to mark it, which is half of what names cost containerd.
///
/// It is there before the first name is: of a managed name, CRI takes it for granted (1.6 to 2.1).
fn make_own_record(client: &Client, image: &ImagePlan, marks: &HashMap<String, String>) -> Result<()> {
    let own = image.wanted.config.digest.to_string();
    if !client.create_image(&own, &image.target, marks)? {
        client.set_image(&own, &image.target, marks)?;
    }
    Ok(())
}

/// Has CRI's word that the names of an image work, and does what needs CRI to know them.
pub(super) fn confirm(
    node: &Node,
    client: &Client,
    image: &ImagePlan,
    named: &Named,
    run: Run<'_>,
) -> Result<()> {
    let config = image.wanted.config.digest;
    if node.cri {
        // CRI takes names up one after the other: when it knows the last, it knows the others.
        let mut seen: Option<CriImage> = None;
        for planned in image.names.iter().rev() {
            let name = &planned.name;
            if !seen.as_ref().is_some_and(|seen| seen.tags.contains(name) || seen.digests.contains(name)) {
                seen = Some(await_cri(client, planned, config, &named.labels, run)?);
            }
        }
    }
    for old in &named.replaced {
        unpin_replaced(client, *old)?;
    }
    Ok(())
}

/// What `blob` keeps alive, where it is a document of an image: labels that containerd's garbage collection goes
/// by.
///
/// They may be set before what they name is there: until the image has a name, the lease keeps all of it.
pub(super) fn content_labels(node: &Node, image: &ImagePlan, blob: Digest) -> HashMap<String, String> {
    let mut labels = HashMap::new();
    if blob == image.wanted.config.digest
        && image.unpacked
        && let Some(top) = image.chain.last()
    {
        let keys = node.snapshotters.iter().map(|name| format!("{}.{name}", known::GC_SNAPSHOT));
        labels.extend(keys.map(|key| (key, top.to_string())));
    }
    // What was there has labels of its own client's; those of ours are added.
    let is_kept = blob == image.target.digest && image.lists == Lists::Kept;
    let ours = |key: &String| !is_kept || key.starts_with("pannier.");
    let kept = document_labels(image, blob).into_iter().filter(|(key, _)| ours(key));
    labels.extend(kept.map(|(key, digest)| (format!("{}.{key}", known::GC_CONTENT), digest.to_string())));
    labels
}

/// Waits until CRI finds the image under `name`.
fn await_cri(
    client: &Client,
    planned: &PlannedName,
    config: Digest,
    labels: &HashMap<String, String>,
    run: Run<'_>,
) -> Result<CriImage> {
    let (name, begun) = (&planned.name, Instant::now());
    let mut nudge = Duration::from_secs(2);
    let mut pause = Duration::from_millis(5);
    loop {
        let found = match client.cri_image(name)? {
            Some(found) if found.id == config => return Ok(found),
            found => found,
        };
        run.check()?;
        if begun.elapsed() > CRI_PATIENCE {
            let reason = match found {
                Some(other) => format!("it still gets image {}", other.id),
                None => "it does not find it".into(),
            };
            return Err(Error::Refused {
                side: Side::Node,
                action: format!("asking CRI for {name}"),
                reason,
            });
        }
        if begun.elapsed() > nudge {
            // CRI tries again after an error, with pauses up to minutes; any update makes it look now.
            client.set_image(name, &planned.target, labels)?;
            nudge *= 2;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Lets kubelet collect an image whose last tag has moved on.
fn unpin_replaced(client: &Client, image: Digest) -> Result<()> {
    let id = image.to_string();
    let records = client.list_images()?;
    let of_image = |record: &&containerd::ImageRecord| {
        record.name == id || record.labels.get(label::IMAGE).is_some_and(|of| *of == id)
    };
    // CRI's own record of an image, `sha256:` and its id, would pass for a tag.
    let tagged =
        |name: &str| name != id && name.parse::<Reference>().is_ok_and(|reference| reference.tag().is_some());
    if records.iter().filter(of_image).any(|record| tagged(&record.name)) {
        return Ok(());
    }
    for record in records.iter().filter(of_image) {
        client.label_image(&record.name, [(known::PINNED, "")])?;
    }
    Ok(())
}

/// Takes the pins off these images, or off all that came from here; returns the names of the records.
pub fn unpin(client: &Client, names: &[String]) -> Result<Vec<String>> {
    let records = client.list_images()?;
    let pinned = |record: &&containerd::ImageRecord| record.labels.contains_key(known::PINNED);
    let ours = |record: &&containerd::ImageRecord| record.labels.contains_key(label::IMAGE);
    let by_name: BTreeMap<&str, &containerd::ImageRecord> =
        records.iter().map(|record| (record.name.as_str(), record)).collect();
    let mut ids = HashSet::new();
    let mut chosen: Vec<&containerd::ImageRecord> = Vec::new();
    if names.is_empty() {
        chosen.extend(records.iter().filter(ours));
    }
    for name in names {
        let record = by_name.get(name.as_str());
        let record = record.ok_or_else(|| Error::not_found(Side::Node, format!("image {name}")))?;
        chosen.push(record);
    }
    for record in &chosen {
        ids.extend(record.labels.get(label::IMAGE).cloned());
    }
    // An image is pinned while any of its records is: all names of it, and CRI's own record.
    let same_image = |record: &&containerd::ImageRecord| {
        ids.contains(&record.name) || record.labels.get(label::IMAGE).is_some_and(|id| ids.contains(id))
    };
    chosen.extend(records.iter().filter(same_image));
    let mut done: Vec<String> = Vec::new();
    for record in chosen.into_iter().filter(pinned) {
        if !done.contains(&record.name) && client.label_image(&record.name, [(known::PINNED, "")])? {
            done.push(record.name.clone());
        }
    }
    Ok(done)
}

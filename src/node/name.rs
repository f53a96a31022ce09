//! The last step of an image: labels, names, and CRI's word that the names work.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Node, label};
use crate::containerd::{self, Client, label as known};
use crate::error::{Error, Result, Side};
use crate::image::{Digest, Reference};
use crate::plan::import::{ImagePlan, Lists, NameVerdict, manifest_labels};
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
    /// Whether the images are unpacked.
    pub unpacked: bool,
}

/// What is left to do for an image that has its names.
#[derive(Debug)]
pub(super) struct Named {
    labels: HashMap<String, String>,
    /// Images of which a name was taken.
    replaced: HashSet<Digest>,
}

/// Names an image, all of which is there: labels bottom up, then the names.
pub(super) fn name(
    node: &Node,
    client: &Client,
    image: &ImagePlan,
    naming: &Naming,
    run: Run<'_>,
) -> Result<Named> {
    label_content(node, client, image, naming)?;
    let config = image.wanted.config.digest;
    let mut labels = HashMap::from([
        (label::MEDIUM.to_owned(), naming.medium.clone()),
        (label::SEQUENCE.to_owned(), image.wanted.sequence.to_string()),
        (label::IMAGE.to_owned(), config.to_string()),
    ]);
    if naming.pin {
        labels.insert(known::PINNED.to_owned(), known::PINNED_VALUE.to_owned());
    }
    let mut replaced = HashSet::new();
    for (name, verdict) in &image.names {
        match verdict {
            NameVerdict::Present => continue,
            NameVerdict::Pin => {
                // Its target stays; the image id is what a later unpinning goes by.
                let image = config.to_string();
                client.label_image(name, [(known::PINNED, known::PINNED_VALUE), (label::IMAGE, &image)])?;
                continue;
            }
            NameVerdict::Add => {}
            NameVerdict::Move(moved) => {
                run.report(Event::Warning(&format!("{name} stood for {} and was moved", moved.from.digest)));
                replaced.extend(moved.was.filter(|was| *was != config));
            }
        }
        client.set_image(name, &image.target, &labels)?;
    }
    Ok(Named { labels, replaced })
}

/// Has CRI's word that the names of an image work, and does what needs CRI to know them.
pub(super) fn confirm(
    node: &Node,
    client: &Client,
    image: &ImagePlan,
    named: &Named,
    naming: &Naming,
    run: Run<'_>,
) -> Result<()> {
    let config = image.wanted.config.digest;
    if node.cri {
        for (name, _) in &image.names {
            await_cri(client, image, name, config, &named.labels, run)?;
        }
        if naming.pin {
            // CRI's own record of the image; the pin counts for the image when all records have it.
            client.label_image(&config.to_string(), [(known::PINNED, known::PINNED_VALUE)])?;
        }
    }
    for old in &named.replaced {
        unpin_replaced(client, *old)?;
    }
    Ok(())
}

fn label_content(node: &Node, client: &Client, image: &ImagePlan, naming: &Naming) -> Result<()> {
    if naming.unpacked
        && let Some(top) = image.chain.last()
    {
        let top = top.to_string();
        let keys: Vec<String> =
            node.snapshotters.iter().map(|name| format!("{}.{name}", known::GC_SNAPSHOT)).collect();
        let labels = keys.iter().map(|key| (key.as_str(), top.as_str()));
        client.label_blob(image.wanted.config.digest, labels)?;
    }
    let mut labels = manifest_labels(image);
    if image.lists == Lists::Kept {
        // Its own client labelled the rest.
        labels.retain(|key, _| key.starts_with("pannier."));
    }
    let labels: Vec<(String, String)> = labels
        .into_iter()
        .map(|(key, digest)| (format!("{}.{key}", known::GC_CONTENT), digest.to_string()))
        .collect();
    client.label_blob(image.target.digest, labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
}

/// Waits until CRI finds the image under `name`.
fn await_cri(
    client: &Client,
    image: &ImagePlan,
    name: &str,
    config: Digest,
    labels: &HashMap<String, String>,
    run: Run<'_>,
) -> Result<()> {
    let begun = Instant::now();
    let mut nudge = Duration::from_secs(2);
    let mut pause = Duration::from_millis(2);
    loop {
        let found = client.cri_image(name)?;
        if found.as_ref().is_some_and(|found| found.id == config) {
            return Ok(());
        }
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
            client.set_image(name, &image.target, labels)?;
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

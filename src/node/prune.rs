//! Taking away images that earlier imports brought: their names go, and containerd collects the rest.

use std::collections::{HashMap, HashSet};

use super::manifest::{manifest, read};
use super::{Node, label};
use crate::containerd::{Container, ImageRecord, label as known};
use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest, ImageConfig, MAX_CONFIG, chain_ids};
use crate::plan::import::prune::{ImportedName, PruneImage, PrunePlan};
use crate::progress::Run;

/// What was taken away.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrunedNames {
    /// Images that are gone from the node, or have only names left that no import made.
    pub images: usize,
    /// Names that were removed.
    pub names: usize,
    /// Bytes of blobs that containerd collected; what was unpacked of them is gone besides.
    pub freed: u64,
}

/// The names on the node that imports made, of the images that `asked` is true for.
///
/// A name counts only while it stands for the image that our label tells: a pull that moved it leaves
/// our labels on it, but it is no longer what an import brought.
pub fn imported(node: &Node, asked: impl Fn(&Digest) -> bool) -> Result<Vec<ImportedName>> {
    let mut images: HashMap<Digest, Option<Digest>> = HashMap::new();
    let mut names = Vec::new();
    for record in node.client.list_images()? {
        let Some(labelled) = labelled(record).filter(|labelled| asked(&labelled.image)) else { continue };
        let image = match images.get(&labelled.target.digest) {
            Some(image) => *image,
            None => image_id(node, &labelled.target)?,
        };
        images.insert(labelled.target.digest, image);
        if image == Some(labelled.image) {
            names.push(labelled);
        }
    }
    Ok(names)
}

fn labelled(record: ImageRecord) -> Option<ImportedName> {
    let image = record.labels.get(label::IMAGE)?.parse().ok()?;
    let medium = record.labels.get(label::MEDIUM)?.clone();
    let sequence = record.labels.get(label::SEQUENCE)?.parse().ok()?;
    Some(ImportedName { name: record.name, target: record.target, image, medium, sequence })
}

/// The image id that a target comes down to; `None` where its documents are absent or damaged.
fn image_id(node: &Node, target: &Descriptor) -> Result<Option<Digest>> {
    match manifest(node, target) {
        Ok(manifest) => Ok(manifest.map(|manifest| manifest.config.digest)),
        Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// What uses each of these images: containers, running or not, of whatever client, and sandboxes.
pub fn uses(node: &Node, images: &[ImportedName]) -> Result<HashMap<Digest, Vec<String>>> {
    let users = Users::of(node)?;
    let mut uses: HashMap<Digest, Vec<String>> = HashMap::new();
    for image in images {
        let found = users.of_name(&image.name);
        let known = uses.contains_key(&image.image);
        let entry = uses.entry(image.image).or_default();
        entry.extend(found.iter().cloned());
        if !known {
            entry.extend(users.of_image(node, image)?);
        }
    }
    for users in uses.values_mut() {
        users.sort();
        users.dedup();
    }
    Ok(uses)
}

/// Who uses what, by everything that ties a container to its image.
#[derive(Debug, Default)]
struct Users {
    names: HashMap<String, Vec<String>>,
    images: HashMap<Digest, Vec<String>>,
    chains: HashMap<Digest, Vec<String>>,
}

impl Users {
    fn of(node: &Node) -> Result<Self> {
        let mut users = Self::default();
        let mut parents: HashMap<String, HashMap<String, String>> = HashMap::new();
        for container in node.client.list_containers()? {
            if !parents.contains_key(&container.snapshotter) && !container.snapshot.is_empty() {
                let snapshots = node.client.list_snapshots(&container.snapshotter)?.into_iter();
                let snapshots = snapshots.map(|snapshot| (snapshot.name, snapshot.parent)).collect();
                parents.insert(container.snapshotter.clone(), snapshots);
            }
            let chain = parents.get(&container.snapshotter).and_then(|known| chain(&container, known));
            let who = describe(&container);
            if let Some(chain) = chain {
                users.chains.entry(chain).or_default().push(who.clone());
            }
            users.names.entry(container.image).or_default().push(who);
        }
        for name in users.names.keys() {
            let target = node.client.image(name)?.map(|record| record.target);
            let image = target.map(|target| image_id(node, &target)).transpose()?.flatten();
            if let (Some(image), Some(who)) = (image, users.names.get(name)) {
                users.images.entry(image).or_default().extend(who.iter().cloned());
            }
        }
        if node.cri {
            for container in node.client.cri_list_containers()? {
                let who = format!("container {}", short(&container.id));
                match container.image.parse() {
                    Ok(image) => users.images.entry(image).or_default().push(who),
                    Err(_) => users.names.entry(container.image).or_default().push(who),
                }
            }
            if let Some(sandbox) = sandbox_image(node)? {
                users.names.entry(sandbox).or_default().push("CRI, for the sandboxes of pods".into());
            }
        }
        Ok(users)
    }

    fn of_name(&self, name: &str) -> &[String] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// What uses the image under another name, or by the layers that are unpacked.
    fn of_image(&self, node: &Node, image: &ImportedName) -> Result<Vec<String>> {
        let mut found = self.images.get(&image.image).cloned().unwrap_or_default();
        found.extend_from_slice(self.of_name(&image.image.to_string()));
        if let Some(top) = top_chain(node, image.image)? {
            found.extend(self.chains.get(&top).into_iter().flatten().cloned());
        }
        Ok(found)
    }
}

/// The chain_id that a container stands on. Between them there can be snapshots of other names, where
/// owners are mapped.
fn chain(container: &Container, parents: &HashMap<String, String>) -> Option<Digest> {
    let mut below = parents.get(&container.snapshot)?;
    loop {
        if let Ok(chain) = below.parse() {
            return Some(chain);
        }
        below = parents.get(below).filter(|parent| *parent != below)?;
    }
}

/// The chain_id of all layers of an image; `None` where its config is absent or damaged.
fn top_chain(node: &Node, image: Digest) -> Result<Option<Digest>> {
    let Some(info) = node.client.blob(image)? else { return Ok(None) };
    let config = Descriptor { media_type: Default::default(), digest: image, size: info.size };
    let bytes = match read(node, &config, MAX_CONFIG) {
        Ok(bytes) => bytes,
        Err(error @ (Error::Unreachable { .. } | Error::Interrupted)) => return Err(error),
        Err(_) => return Ok(None),
    };
    let config = ImageConfig::parse(&bytes).ok();
    Ok(config.and_then(|config| chain_ids(config.diff_ids()).last().copied()))
}

/// The image of pods' sandboxes, where CRI tells it (containerd 1.x): without pods, nothing uses it.
fn sandbox_image(node: &Node) -> Result<Option<String>> {
    let config = node.client.cri_config()?;
    let config: Option<serde_json::Value> = config.and_then(|text| serde_json::from_str(&text).ok());
    Ok(config.and_then(|config| config["sandboxImage"].as_str().map(str::to_owned)))
}

pub(super) fn describe(container: &Container) -> String {
    let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
    let (namespace, pod) = (label("io.kubernetes.pod.namespace"), label("io.kubernetes.pod.name"));
    match pod {
        "" => format!("container {}", short(&container.id)),
        pod => format!("container {} of pod {namespace}/{pod}", short(&container.id)),
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Removes what the plan says and waits until containerd has collected it.
///
/// Killed at any moment, running it again goes on: a name that an import made goes last of each image.
pub fn prune(node: &Node, plan: &PrunePlan, run: Run<'_>) -> Result<PrunedNames> {
    let mut done = PrunedNames::default();
    if plan.removed().next().is_none() {
        return Ok(done);
    }
    let before = node.client.blobs()?;
    for image in plan.removed() {
        run.check()?;
        let removed = remove(node, image)?;
        done.images += usize::from(removed > 0);
        done.names += removed;
    }
    node.client.collect_garbage()?;
    let after: HashSet<Digest> = node.client.blobs()?.into_iter().map(|blob| blob.digest).collect();
    done.freed = before.iter().filter(|blob| !after.contains(&blob.digest)).map(|blob| blob.size).sum();
    Ok(done)
}

/// Removes the names of an image; CRI's own record of it with them, unless it has other names.
fn remove(node: &Node, image: &PruneImage) -> Result<usize> {
    let client = &node.client;
    let id = image.id.to_string();
    let records = client.list_images()?;
    let seen = if node.cri { client.cri_image(&id)? } else { None };
    let seen: HashSet<&String> = seen.iter().flat_map(|seen| seen.tags.iter().chain(&seen.digests)).collect();
    let targets: HashSet<Digest> = image.names.values().map(|target| target.digest).collect();
    let other = |record: &&ImageRecord| {
        record.name != id
            && !image.names.contains_key(&record.name)
            && (targets.contains(&record.target.digest) || seen.contains(&record.name))
    };
    let others: Vec<&ImageRecord> = records.iter().filter(other).collect();
    let own_record = records.iter().find(|record| record.name == id);
    let mut removed = 0;
    // A tag comes last: the names are sorted, and `:` is before `@`.
    for (at, (name, target)) in image.names.iter().rev().enumerate() {
        let last = at + 1 == image.names.len();
        if let Some(own) = own_record.filter(|_| last && others.is_empty()) {
            client.delete_image(&own.name, &own.target)?;
        }
        removed += usize::from(client.delete_image(name, target)?);
    }
    if !others.is_empty() {
        unpin_rest(node, &others, own_record)?;
    }
    Ok(removed)
}

/// Takes off the pins that imports put on an image which has only other names left.
fn unpin_rest(node: &Node, others: &[&ImageRecord], own_record: Option<&ImageRecord>) -> Result<()> {
    if others.iter().any(|record| record.labels.contains_key(label::MEDIUM)) {
        return Ok(());
    }
    // What has no label of ours was pinned by somebody else.
    let ours = |record: &&&ImageRecord| record.labels.contains_key(label::IMAGE);
    let theirs = |record: &&ImageRecord| {
        record.labels.contains_key(known::PINNED) && !record.labels.contains_key(label::IMAGE)
    };
    let own_record = own_record.filter(|_| !others.iter().any(theirs));
    for record in others.iter().filter(ours).copied().chain(own_record) {
        node.client.label_image(&record.name, [(known::PINNED, ""), (label::IMAGE, "")])?;
    }
    Ok(())
}

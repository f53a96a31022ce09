//! Names of images in texts that are no image fields: arguments, environment, settings of operators.

use super::yaml::{Node, Value};
use crate::image::Reference;

/// What stands between names in a text.
const BETWEEN: &[char] = &['=', ',', ';', '"', '\'', '`', '|', '(', ')', '[', ']', '{', '}', '<', '>'];
/// What a taint does is written like a tag: `node.kubernetes.io/unreachable:NoExecute`.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// What `kubectl apply` leaves: the whole object once more.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A name of an image and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) image: Reference,
    pub(super) line: u64,
}

/// Every name of an image in the texts below `node`. `field` says which members named `image` are passed
/// over, since they are dealt with elsewhere.
pub(super) fn below(node: &Node, skip_image: bool, mentions: &mut Vec<Mention>) {
    walk(node, false, skip_image, mentions);
}

/// `about` says whether what the node belongs to speaks of images.
fn walk(node: &Node, about: bool, skip_image: bool, mentions: &mut Vec<Mention>) {
    match &node.value {
        Value::Text(text) => {
            mentions.extend(in_text(text, about).map(|image| Mention { image, line: node.line }));
        }
        Value::List(elements) => {
            let mut flag = false;
            for element in elements {
                let text = element.text().unwrap_or_default();
                walk(element, about || flag || speaks_of_images(flag_of(text)), skip_image, mentions);
                flag = text.starts_with('-') && !text.contains('=') && speaks_of_images(text);
            }
        }
        Value::Map(members) => {
            mentions.extend(in_parts(node));
            let name = node.get("name").and_then(Node::text).unwrap_or_default();
            for (key, member) in members {
                if key == APPLIED || (skip_image && key == "image" && member.text().is_some()) {
                    continue;
                }
                let own = speaks_of_images(key) || (key == "value" && speaks_of_images(name));
                walk(member, about || own, skip_image, mentions);
            }
        }
        Value::Other => {}
    }
}

fn speaks_of_images(word: &str) -> bool {
    word.to_ascii_lowercase().contains("image")
}

/// The name of a flag that has its value behind it: `--engine-image` of `--engine-image=x`.
fn flag_of(text: &str) -> &str {
    text.split_once('=').map_or("", |(flag, _)| flag)
}

/// An image in pieces, as charts have it: `{registry, repository, tag, digest}`.
fn in_parts(node: &Node) -> Option<Mention> {
    let text = |key: &str| node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
    let repository = text("repository")?;
    let registry = text("registry").map(|registry| format!("{registry}/")).unwrap_or_default();
    let tag = text("tag").map(|tag| format!(":{tag}"));
    let digest = text("digest").map(|digest| format!("@{digest}"));
    if tag.is_none() && digest.is_none() {
        return None;
    }
    let name = format!("{registry}{repository}{}{}", tag.unwrap_or_default(), digest.unwrap_or_default());
    Some(Mention { image: name.parse().ok()?, line: node.get("repository")?.line })
}

/// The names in a text: with registry, and tag or digest. Where it is about images, the registry may be left
/// out, which is Docker Hub then.
fn in_text(text: &str, about: bool) -> impl Iterator<Item = Reference> + '_ {
    let words = text.split(|c: char| c.is_whitespace() || BETWEEN.contains(&c));
    words.filter_map(move |word| {
        let word = word.trim_end_matches(['.', ':', '!', '?']);
        let word = ["docker://", "oci://"].into_iter().find_map(|s| word.strip_prefix(s)).unwrap_or(word);
        let (path, last) = word.rsplit_once('/').unwrap_or(("", word));
        let tag = last.split_once('@').map_or(last, |(name, _)| name).split_once(':').map(|(_, tag)| tag);
        let has_digest = last.contains("@sha256:");
        if (tag.is_none() && !has_digest) || tag.is_some_and(|tag| EFFECTS.contains(&tag)) {
            return None;
        }
        let host = path.split('/').next().unwrap_or_default();
        let top = host.split(':').next().unwrap_or_default().rsplit_once('.');
        let top_level = top.is_some_and(|(_, top)| top.bytes().all(|b| b.is_ascii_alphabetic()));
        let has_registry = !path.is_empty() && (top_level || host.contains(':') || host == "localhost");
        // A time of day and a port look like a name with a tag.
        let is_name = |tag: &str| {
            last.contains(|c: char| c.is_ascii_alphabetic())
                && (!path.is_empty() || tag.contains(|c: char| c.is_ascii_digit()) || tag == "latest")
        };
        let named = has_registry || (about && (has_digest || tag.is_some_and(is_name)));
        named.then(|| word.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, about: bool) -> Vec<String> {
        in_text(text, about).map(|image| image.to_string()).collect()
    }

    #[test]
    fn full_references_are_found_wherever_they_stand() {
        let digest = format!("quay.io/team/worker@sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("--config-reloader=quay.io/team/reloader:v1.0.0", &["quay.io/team/reloader:v1.0.0"][..]),
            (
                "1.0=quay.io/team/kafka:1.0\n2.0=quay.io/team/kafka:2.0",
                &["quay.io/team/kafka:1.0", "quay.io/team/kafka:2.0"],
            ),
            (
                "run \"localhost:5000/a:1\", then docker://ghcr.io/b:2.",
                &["localhost:5000/a:1", "ghcr.io/b:2"],
            ),
            (&digest, &[digest.as_str()]),
        ] {
            assert_eq!(found(text, false), expected, "{text}");
        }
        for text in [
            "https://quay.io/team/x:1",
            "node.kubernetes.io/unreachable:NoExecute",
            "quay.io/team/app",
            "longhornio/engine:v1",
            "10:30",
            "1.2.3/4:5",
            "localhost:8080",
            "a: b",
        ] {
            assert!(found(text, false).is_empty(), "{text}: {:?}", found(text, false));
        }
    }

    #[test]
    fn what_is_about_images_needs_no_registry() {
        assert_eq!(found("longhornio/engine:v1", true), ["docker.io/longhornio/engine:v1"]);
        assert_eq!(found("nginx:1.29", true), ["docker.io/library/nginx:1.29"]);
        for text in ["Always", "85", "10:30", "imagefs.available:high", "v1"] {
            assert!(found(text, true).is_empty(), "{text}: {:?}", found(text, true));
        }
    }
}

//! `pannier digests`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::image::{Digest, Reference};
use crate::medium::Medium;
use crate::record::Record;

/// Print upstream's digest of each image beside the one that a mirror of the medium serves
///
/// They differ where layers were recompressed. Manifests that pin upstream's digest need the other one when they
/// pull from such a mirror; --kustomize prints the map. An image that was imported is found by both.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier digests /media/stick
  pannier digests /media/stick --kustomize >>kustomization.yaml")]
pub(super) struct Args {
    /// The medium's directory
    medium: PathBuf,
    /// Print the `images` of a kustomization: each name with the carried digest
    #[arg(long)]
    kustomize: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let medium = Medium::open(&args.medium)?;
    let record = medium.committed()?;
    if output.json() {
        return output.document(&json!({ "images": rows(record).map(Row::json).collect::<Vec<_>>() }));
    }
    if args.kustomize {
        return output.data(&kustomize(record));
    }
    let names: Vec<String> = rows(record).map(|row| row.name.to_string()).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0).max(5);
    let mut table = format!("{:width$}  {:71}  CARRIED\n", "IMAGE", "UPSTREAM");
    for Row { name, original, carried } in rows(record) {
        let carried = if carried == original { "the same".to_owned() } else { carried.to_string() };
        table += &format!("{:width$}  {original}  {carried}\n", name.to_string());
    }
    output.data(&table)
}

struct Row<'a> {
    name: &'a Reference,
    original: Digest,
    carried: Digest,
}

impl Row<'_> {
    fn json(self) -> serde_json::Value {
        json!({ "name": self.name, "upstream": self.original, "carried": self.carried })
    }
}

fn rows(record: &Record) -> impl Iterator<Item = Row<'_>> {
    record.images.iter().flat_map(|image| {
        let (original, carried) = (image.original.digest, image.carried.digest);
        image.names.iter().map(move |name| Row { name, original, carried })
    })
}

/// The `images` transformer goes by names as manifests have them, without tags, so that an image with several
/// tags has no single digest.
fn kustomize(record: &Record) -> String {
    let mut digests: BTreeMap<String, BTreeMap<Digest, Vec<&Reference>>> = BTreeMap::new();
    for row in rows(record) {
        let full = row.name.repository();
        let short = full.strip_prefix("docker.io/").map(|name| name.strip_prefix("library/").unwrap_or(name));
        for name in short.into_iter().chain([full]) {
            digests.entry(name.to_owned()).or_default().entry(row.carried).or_default().push(row.name);
        }
    }
    let mut text = String::from("images:\n");
    for (name, found) in &digests {
        match found.iter().next() {
            Some((digest, _)) if found.len() == 1 => {
                text += &format!("- name: {name}\n  digest: {digest}\n");
            }
            _ => {
                text += &format!(
                    "# {name} has several tags with different digests; kustomize cannot tell them apart:\n"
                );
                for (digest, names) in found {
                    names.iter().for_each(|name| text += &format!("#   {name}: {digest}\n"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Descriptor;
    use crate::record::Image;

    fn image(name: &str, carried: &str) -> Image {
        Image {
            names: [name.parse().unwrap()].into(),
            original: Descriptor::of("x", b"original"),
            carried: Descriptor::of("x", carried.as_bytes()),
            platforms: Vec::new(),
            sequence: 1,
            referrers: Vec::new(),
        }
    }

    #[test]
    fn a_name_with_one_digest_is_mapped_and_one_with_several_is_told() {
        let mut record = Record::empty("m".into());
        record.images = vec![image("nginx:1", "a"), image("quay.io/x:1", "b"), image("quay.io/x:2", "c")];
        let text = kustomize(&record);
        let digest = Digest::of(b"a");
        for name in ["nginx", "docker.io/library/nginx"] {
            assert!(text.contains(&format!("- name: {name}\n  digest: {digest}\n")), "{text}");
        }
        assert!(!text.contains("- name: quay.io/x"), "{text}");
        assert!(text.contains(&format!("#   quay.io/x:2: {}", Digest::of(b"c"))), "{text}");
    }
}

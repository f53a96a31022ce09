//! A realistic update: the corpus as Debian released it, then with its security updates, carried as deltas.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::carry::{assert_names_only_what_is_there, oci, run, text};
use crate::support::cluster::{import, versions};
use crate::support::node::Node;
use pannier::Side;
use pannier::image::{Descriptor, Digest};
use pannier::progress::Stop;
use pannier::source::{Platforms, Resolved, everything, open_local, resolve};
use serde_json::Value;

/// The corpus without and with updates.
fn corpora() -> Option<(PathBuf, PathBuf)> {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/corpus");
    let (old, new) = (corpora.join("full"), corpora.join("updated"));
    if !old.join("index.json").exists() || !new.join("index.json").exists() {
        crate::support::skipped("the corpus is missing, or that with updates; run make corpus");
        return None;
    }
    Some((old, new))
}

/// Every image of a corpus for this machine.
fn images(corpus: &Path) -> Vec<Resolved> {
    let source = open_local(&oci(corpus).parse().unwrap(), &Stop::default()).unwrap();
    let platforms = Platforms::Only(vec!["linux/amd64".parse().unwrap()]);
    let wanted = everything(&*source, None).unwrap();
    wanted.iter().map(|wanted| resolve(&*source, wanted, &platforms).unwrap()).collect()
}

/// The layers of a set, each once: diff_id to the blob that manifests list.
fn layers(images: &[Resolved]) -> BTreeMap<Digest, Descriptor> {
    let layers = images.iter().flat_map(|image| &image.platforms[0].layers);
    layers.map(|layer| (layer.diff_id, layer.listed.clone())).collect()
}

fn export(corpus: &Path, medium: &Path, more: &[&str]) -> Value {
    let from = oci(corpus);
    let own =
        ["export", "--json", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(medium)];
    run(0, own.into_iter().chain(more.iter().copied())).json()
}

#[test]
fn a_security_update_is_carried_in_little_and_rebuilt_on_every_node() {
    let Some((old_corpus, new_corpus)) = corpora() else { return };
    let directory = tempfile::Builder::new().prefix("pannier-update-").tempdir_in("/var/tmp").unwrap();
    let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
    let (before, after) = (images(&old_corpus), images(&new_corpus));
    let (old_layers, new_layers) = (layers(&before), layers(&after));
    let changed = new_layers.keys().filter(|diff_id| !old_layers.contains_key(diff_id)).count();
    assert!(changed >= 5, "the updates change layers: {changed}");

    // Quicker; deltas start from the tars, however the nodes came by them.
    export(&old_corpus, &old, &["--compression", "zstd:3"]);
    let Some(newest) = versions().pop() else { return };
    let inventory = directory.path().join("node.json");
    {
        let node = Node::start(newest);
        import(0, &node, &old, &[]);
        run(0, ["inventory", "--address", text(&node.socket()), "-o", text(&inventory)]);
    }
    let of_old = format!("medium:{}", old.display());
    let done = export(&new_corpus, &new, &["--have", text(&inventory), "--have", &of_old]);
    let gzip: u64 = new_layers.values().map(|layer| layer.size).sum();
    let carried = done["bytesWritten"].as_u64().unwrap();
    eprintln!(
        "{carried} of {gzip} bytes of gzip, {changed} layers changed, {} deltas",
        done["deltasWritten"]
    );
    assert!(carried * 100 <= gzip * 15, "{carried} of {gzip}");
    assert_names_only_what_is_there(&new);

    let archive = directory.path().join("old.tar");
    let tar = Command::new("tar").arg("-C").arg(&old_corpus).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar.unwrap().success());
    for version in versions() {
        // tests/node/delta.rs tries both on every version, with small images.
        let pulled_as_well = version == "2.1";
        for pulled in [false, true].into_iter().take(1 + usize::from(pulled_as_well)) {
            let node = Node::start(version);
            if pulled {
                node.ctr(&["images", "import", text(&archive)]);
            } else {
                import(0, &node, &old, &[]);
            }
            let done = import(0, &node, &new, &[]).json();
            let deltas = done["layersRebuilt"].as_u64();
            assert_eq!(deltas, Some(changed as u64), "{version}, pulled: {pulled}");
            assert_holds(&node, &after);
            for (image, command, expected) in [
                ("docker.io/library/nginx:1.22", &["/usr/sbin/nginx", "-v"][..], "nginx/1.22"),
                (
                    "docker.io/library/postgres:15",
                    &["/usr/lib/postgresql/15/bin/postgres", "--version"],
                    "15.",
                ),
                ("ghcr.io/canonical/shop:1.4", &["/usr/local/bin/podmain", "open"], "open"),
            ] {
                let ran = node.run_pod(image, command).unwrap();
                assert!(ran.output.contains(expected), "{image} on {version}: {}", ran.output);
            }
        }
    }
}

/// Every image of the set is on the node under its names, every layer decodes to its diff_id.
fn assert_holds(node: &Node, images: &[Resolved]) {
    let client = node.client();
    let read = |blob: &Descriptor| {
        let reader = client.read_blob(blob, 0).unwrap();
        pannier::content::read_all(reader, blob, Side::Node, 1 << 22).unwrap()
    };
    let mut decoded: BTreeMap<Digest, Digest> = BTreeMap::new();
    for image in images {
        let expected = &image.platforms[0];
        let target = client.image(&image.name.to_string()).unwrap().unwrap().target;
        let by_digest = image.name.with_digest(image.original.digest).to_string();
        assert!(client.image(&by_digest).unwrap().is_some(), "{by_digest}");
        let manifest: Value = serde_json::from_slice(&read(&target)).unwrap();
        let config: Descriptor = serde_json::from_value(manifest["config"].clone()).unwrap();
        assert_eq!(config.digest, expected.config.digest, "{}", image.name);
        let listed = manifest["layers"].as_array().unwrap();
        assert_eq!(listed.len(), expected.layers.len());
        for (layer, expected) in listed.iter().zip(&expected.layers) {
            let blob: Descriptor = serde_json::from_value(layer.clone()).unwrap();
            let diff_id = decoded.entry(blob.digest).or_insert_with(|| {
                let reader = client.read_blob(&blob, 0).unwrap();
                pannier::layer::check(reader, pannier::layer::Most::Ratio).unwrap().diff_id
            });
            assert_eq!(*diff_id, expected.diff_id, "{}", image.name);
        }
    }
}

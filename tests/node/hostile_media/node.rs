//! What must never be seen in containerd: bombs (H51, H56), H57 to H59, and nothing at all of what is refused.

use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};

use super::layers::{GZIP, ZSTD, bomb, gzip, zstd_of};
use super::maker::{CONFIG, Draft, INDEX, MANIFEST, ManifestOf, NAME, Stick, ends, manifest, tar};
use crate::support::carry::text;
use crate::support::cluster;
use crate::support::node::Node;

/// Labels and annotations by which containerd keeps, finds or believes things.
fn loaded() -> Value {
    json!({
        "containerd.io/gc.root": "2020-01-01T00:00:00Z",
        "containerd.io/gc.ref.content.0": format!("sha256:{}", "ab".repeat(32)),
        "containerd.io/gc.ref.snapshot.overlayfs": "x",
        "containerd.io/distribution.source.registry.k8s.io": "pause",
        "containerd.io/uncompressed": format!("sha256:{}", "ab".repeat(32)),
        "containerd.io/namespace": "moby",
        "io.containerd.image.namespace": "moby",
        "io.cri-containerd.image": "managed",
        "io.cri-containerd.pinned": "pinned",
        "io.pannier.medium": "f".repeat(32),
        "long": "x".repeat(5000),
    })
}

#[test]
fn h57_h58_h59_labels_and_annotations_stay_on_the_medium() {
    let annotated = |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest["annotations"] = loaded();
        manifest["config"]["annotations"] = loaded();
        manifest["layers"][0]["annotations"] = loaded();
        manifest.to_string().into_bytes()
    };
    let labelled = |mut config: Value| {
        config["config"]["Labels"] = loaded();
        config.to_string().into_bytes()
    };
    let indexed = |manifest: &Descriptor| {
        let mut entry = json!(manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        entry["annotations"] = loaded();
        let index =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry], "annotations": loaded() });
        vec![(INDEX, index.to_string().into_bytes())]
    };
    let made = Draft {
        manifest: Box::new(annotated),
        config: Box::new(labelled),
        root: Box::new(indexed),
        ..Draft::default()
    }
    .make();
    let layout = made.layout();
    let to = layout.beside("to");
    ends(0, ["export", "--from", &format!("oci:{}", layout.path().display()), "--all", "--to", text(&to)]);
    for version in cluster::versions() {
        let node = Node::start_with(version, &["cri=off"]);
        let socket = node.socket();
        ends(0, ["import", text(&to), "--address", text(&socket), "--no-cri"]);
        let client = node.client();
        let mut labels = Vec::new();
        labels.extend(client.blobs().unwrap().into_iter().flat_map(|blob| blob.labels));
        labels.extend(client.list_images().unwrap().into_iter().flat_map(|image| image.labels));
        assert!(!labels.is_empty());
        let medium = text_of(&loaded(), "io.pannier.medium");
        for (key, value) in labels {
            let stands_in = |other: &str| value.contains(other);
            assert!(key.len() + value.len() <= 4096, "{key}");
            assert!(
                !stands_in("abababab") && !stands_in(&medium) && !stands_in("2020-01-01"),
                "{key}={value}"
            );
            assert!(
                !key.contains("pause")
                    && !key.starts_with("containerd.io/distribution.source.registry.k8s.io"),
                "{key}"
            );
        }
        let namespaces = client.list_namespaces().unwrap();
        assert!(!namespaces.iter().any(|name| name == "moby"), "{namespaces:?}");
    }
}

fn text_of(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

type Case = (&'static str, fn() -> Stick);

/// Media whose records are consistent, so that only the documents tell.
const CASES: [Case; 11] = [
    ("twice", || spliced(r#""layers":[],"#)),
    ("other letters", || spliced(r#""Layers":[],"#)),
    ("ambiguous", || spliced(r#""manifests":[],"#)),
    ("schema 1", || spliced(r#""fsLayers":[],"#)),
    ("nested more than 64 deep", || {
        let deep = [b"{\"a\":".repeat(70), b"1".to_vec(), b"}".repeat(70)].concat();
        with_manifest(Box::new(move |_, _| deep.clone()))
    }),
    ("names another config", || {
        with_manifest(Box::new(|config, layer| {
            let confused = Descriptor { media_type: CONFIG.into(), ..layer.clone() };
            manifest(&confused, std::slice::from_ref(config)).to_string().into_bytes()
        }))
    }),
    ("no layer by its media type", || {
        let made = Draft { layer_type: "application/x-none".into(), ..Draft::default() }.make();
        made.medium(|_| ())
    }),
    ("does not give this manifest", || {
        let other = |_: &Descriptor| {
            let other = json!({ "mediaType": MANIFEST, "digest": Digest::of(b"other"), "size": 5 });
            vec![(
                INDEX,
                json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [other] })
                    .to_string()
                    .into_bytes(),
            )]
        };
        Draft { root: Box::new(other), ..Draft::default() }.make().medium(|_| ())
    }),
    ("does not give this manifest for linux/amd64", || {
        let indexed = |manifest: &Descriptor| {
            let mut entry = json!(manifest);
            entry["platform"] = json!({ "os": "linux", "architecture": "arm64" });
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
            vec![(INDEX, index.to_string().into_bytes())]
        };
        Draft { root: Box::new(indexed), ..Draft::default() }.make().medium(|_| ())
    }),
    ("is for linux/arm64, and the commit record says linux/amd64", || {
        let arm64 = |mut config: Value| {
            config["architecture"] = json!("arm64");
            config.to_string().into_bytes()
        };
        Draft { config: Box::new(arm64), ..Draft::default() }.make().medium(|_| ())
    }),
    ("lists other layers", || {
        let lying = |mut config: Value| {
            config["rootfs"]["diff_ids"] = json!([Digest::of(b"other")]);
            config.to_string().into_bytes()
        };
        Draft { config: Box::new(lying), ..Draft::default() }.make().medium(|_| ())
    }),
];

fn with_manifest(manifest: ManifestOf) -> Stick {
    Draft { manifest, ..Draft::default() }.make().medium(|_| ())
}

fn spliced(more: &'static str) -> Stick {
    with_manifest(Box::new(move |config, layer| {
        let text = manifest(config, std::slice::from_ref(layer)).to_string();
        text.replacen('{', &format!("{{{more}"), 1).into_bytes()
    }))
}

#[test]
fn nothing_of_what_is_refused_reaches_containerd() {
    let Some(version) = cluster::versions().pop() else { return };
    let node = Node::start_with(version, &["cri=off"]);
    let socket = node.socket();
    let import = |stick: &Stick, status: i32| {
        ends(status, ["import", text(&stick.path()), "--address", text(&socket), "--no-cri"])
    };
    for (reason, make) in CASES {
        let said = import(&make(), 4);
        assert!(said.contains(reason), "{reason}: {said}");
        assert!(node.client().blobs().unwrap().is_empty(), "{reason}");
        assert!(node.client().list_images().unwrap().is_empty(), "{reason}");
        assert!(crate::support::unfinished(&node.client()).is_empty(), "{reason}");
    }
    // A layer that decodes to other bytes is sent as what its digest says, and never named.
    let other = tar(b"CONTENT");
    let lying = Draft { layer: other, ..Draft::default() }.make().medium(|_| ());
    let said = import(&lying, 4);
    assert!(said.contains("the content of layer") && said.contains("is damaged"), "{said}");
    assert!(node.client().image(NAME).unwrap().is_none());
    // A layer that is said to unpack to a tebibyte is refused by the space that there is.
    let huge = Draft { size: 1 << 40, ..Draft::default() }.make().medium(|_| ());
    let before = node.client().blobs().unwrap().len();
    let said = import(&huge, 5);
    assert!(said.contains("free"), "{said}");
    assert_eq!(node.client().blobs().unwrap().len(), before);
    // The same make of medium, unchanged, goes in.
    import(&Draft::default().make().medium(|_| ()), 0);
    assert!(node.client().image(NAME).unwrap().is_some());
}

#[test]
fn h51_h56_a_bomb_is_not_sent_to_containerd() {
    let Some(version) = cluster::versions().pop() else { return };
    let node = Node::start_with(version, &["cri=off"]);
    let socket = node.socket();
    let import = |media_type: &str, layer: Vec<u8>, status: i32| {
        let stick = Draft { layer_type: media_type.into(), layer, ..Draft::default() }.make().medium(|_| ());
        ends(status, ["import", text(&stick.path()), "--address", text(&socket), "--no-cri"])
    };
    // 4 GiB; and what is sent in several messages before it shows: its other blocks are as long as they say.
    let small = bomb(0x38, None, 1 << 15);
    let mut late = small[..6].to_vec();
    for _ in 0..40 {
        late.extend(&((64_u32 << 10) << 3).to_le_bytes()[..3]);
        late.extend(vec![b'a'; 64 << 10]);
    }
    late.extend(&small[6..]);
    for (media_type, layer) in [(ZSTD, small), (ZSTD, late), (GZIP, gzip(&vec![0; 64 << 20]))] {
        let digest = Digest::of(&layer);
        let said = import(media_type, layer, 4);
        assert!(
            said.contains("the content of layer") && said.contains("bytes long, expected 2048"),
            "{said}"
        );
        assert!(node.client().blob(digest).unwrap().is_none());
        assert!(crate::support::unfinished(&node.client()).is_empty());
        assert!(node.client().image(NAME).unwrap().is_none());
    }
    // What only decoding tells to be none goes in.
    let frames: Vec<u8> = tar(b"content").chunks(64).flat_map(zstd_of).collect();
    for (media_type, layer) in [(GZIP, gzip(&tar(b"content"))), (ZSTD, frames)] {
        let digest = Digest::of(&layer);
        import(media_type, layer, 0);
        assert!(
            node.client().blob(digest).unwrap().is_some() && node.client().image(NAME).unwrap().is_some()
        );
        for name in node.ctr(&["images", "list", "-q"]).lines() {
            node.ctr(&["images", "remove", "--sync", name]);
        }
    }
}

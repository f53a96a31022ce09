//! JSON and graphs: H17 to H26, H45 to H50, H64.

use std::collections::BTreeMap;
use std::fs::File;

use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};

use super::maker::{CONFIG, Draft, INDEX, LAYER, MANIFEST, NAME, RootOf, Stick, ends, manifest};
use crate::support::carry::{run, text};

/// A medium and a layout in which the manifest's bytes are these.
fn with_manifest(bytes: impl Fn(&Descriptor, &Descriptor) -> Vec<u8> + 'static) -> (Stick, Stick) {
    let made = Draft { manifest: Box::new(bytes), ..Draft::default() }.make();
    (made.medium(|_| ()), made.layout())
}

/// The manifest with something put into it as text: what no JSON library would write.
fn spliced(at: &'static str, more: &'static str) -> (Stick, Stick) {
    with_manifest(move |config, layer| {
        let text = manifest(config, std::slice::from_ref(layer)).to_string();
        assert!(text.contains(at), "{text}");
        text.replacen(at, &format!("{at}{more}"), 1).into_bytes()
    })
}

fn both_refuse((medium, layout): (Stick, Stick), reason: &str) {
    medium.verify(4, "image-chain", reason);
    layout.export(1, reason);
}

#[test]
fn the_limits_can_be_seen() {
    let said = run(0, ["limits", "--json"]).stdout();
    let limits: Value = serde_json::from_str(&said).unwrap();
    let limit = |name: &str| {
        let found = limits.as_array().unwrap().iter().find(|limit| limit["name"] == name);
        found.unwrap_or_else(|| panic!("{name}"))["value"].as_u64().unwrap()
    };
    for (name, value) in [
        ("record", 16 << 20),
        ("manifest", 4 << 20),
        ("config", 8 << 20),
        ("signature", 64 << 10),
        ("index-depth", 4),
        ("nodes", 100_000),
        ("layers", 512),
        ("window", 1 << 27),
    ] {
        assert_eq!(limit(name), value, "{name}");
    }
    let table = run(0, ["limits"]).stdout();
    assert!(table.lines().any(|line| line.starts_with("manifest ") && line.contains("4 MiB")), "{table}");
}

#[test]
fn h17_index_json_of_10_gib() {
    let stick = Draft::default().make().medium(|_| ());
    File::create(stick.at("index.json")).unwrap().set_len(10 << 30).unwrap();
    stick.verify(4, "index-damaged", "longer than the 4194304 bytes allowed");
    let layout = Draft::default().make().layout();
    File::create(layout.at("index.json")).unwrap().set_len(10 << 30).unwrap();
    layout.export(1, "longer than the 4194304 bytes allowed");
}

#[test]
fn h17_commit_record_of_10_gib() {
    let stick = Draft::default().make().medium(|_| ());
    File::create(stick.at(".pannier/commits/0000000001.json")).unwrap().set_len(10 << 30).unwrap();
    stick.verify(4, "record-damaged", "longer than the 16777216 bytes allowed");
}

#[test]
fn h18_nesting_of_100_000() {
    both_refuse(with_manifest(|_, _| b"[".repeat(100_000)), "nested more than 64 deep");
    let deep = [b"{\"a\":".repeat(70), b"1".to_vec(), b"}".repeat(70)].concat();
    both_refuse(with_manifest(move |_, _| deep.clone()), "nested more than 64 deep");
}

#[test]
fn h19_counts() {
    let many = format!("[{}1]", "1,".repeat(1_000_000));
    both_refuse(with_manifest(move |_, _| many.clone().into_bytes()), "more than the 1000000 values allowed");
    let annotations: BTreeMap<String, &str> = (0..1001).map(|n| (n.to_string(), "")).collect();
    let annotated = move |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest["annotations"] = json!(annotations);
        manifest.to_string().into_bytes()
    };
    both_refuse(with_manifest(annotated), "more than 1000 keys");
    let key = "k".repeat(1 << 20);
    let long = move |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest[&key] = json!(1);
        manifest.to_string().into_bytes()
    };
    both_refuse(with_manifest(long), "is too long");
}

#[test]
fn h20_numbers() {
    for (size, reason) in [
        ("-1", "invalid"),
        ("1e400", "out of range"),
        ("18446744073709551616", "invalid"),
        ("1.5", "invalid"),
        ("9223372036854775808", "more than a blob may have"),
    ] {
        let bad = move |config: &Descriptor, layer: &Descriptor| {
            let text = manifest(config, std::slice::from_ref(layer)).to_string();
            text.replace(&format!("\"size\":{}", layer.size), &format!("\"size\":{size}")).into_bytes()
        };
        both_refuse(with_manifest(bad), reason);
    }
    Draft::default()
        .make()
        .medium(|record| record["layers"][0]["size"] = json!(u64::MAX))
        .refused("more than a blob");
}

#[test]
fn h21_what_is_not_one_json_document() {
    for (start, end, reason) in [
        (&b"\xef\xbb\xbf"[..], &b""[..], "byte order mark"),
        (b"", b"\0", "trailing characters"),
        (b"", b"{}", "trailing characters"),
        (b"", b" garbage", "trailing characters"),
        (b"\xff", b"", "not UTF-8"),
    ] {
        let around = move |config: &Descriptor, layer: &Descriptor| {
            let text = manifest(config, std::slice::from_ref(layer)).to_string();
            [start, text.as_bytes(), end].concat()
        };
        both_refuse(with_manifest(around), reason);
    }
    both_refuse(spliced("{", r#""x":"\ud800","#), "hex escape");
    let invalid = |config: &Descriptor, layer: &Descriptor| {
        let text = manifest(config, std::slice::from_ref(layer)).to_string();
        [b"{\"x\":\"\xc3\x28\",", &text.as_bytes()[1..]].concat()
    };
    both_refuse(with_manifest(invalid), "not UTF-8");
}

#[test]
fn h05_a_key_twice_in_the_record() {
    let made = Draft::default().make();
    let stick = made.medium(|_| ());
    let body = made.record().to_string();
    for twice in [r#""sequence":1,"#, r#""unheard-of":{"a":1,"a":1},"#] {
        stick.seal(1, body.replacen('{', &format!("{{{twice}"), 1).as_bytes());
        stick.refused("is there twice");
    }
}

#[test]
fn h21_keys_that_another_reader_takes_otherwise() {
    both_refuse(spliced("{", r#""layers":[],"#), "is there twice");
    both_refuse(spliced("{", r#""Layers":[],"#), "in other letters");
    let config =
        |value: Value| value.to_string().replacen('{', r#"{"Rootfs":{"diff_ids":[]},"#, 1).into_bytes();
    let made = Draft { config: Box::new(config), ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "image-chain", "in other letters");
    made.layout().export(1, "in other letters");
}

#[test]
fn h22_documents_that_are_two_things() {
    both_refuse(spliced("{", r#""manifests":[],"#), "ambiguous");
    let retyped = |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest["mediaType"] = json!(INDEX);
        manifest.to_string().into_bytes()
    };
    both_refuse(with_manifest(retyped), "of another kind than its descriptor's");
    // Without a type of its own it is what its descriptor says.
    let untyped = |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest.as_object_mut().unwrap().remove("mediaType");
        manifest.to_string().into_bytes()
    };
    with_manifest(untyped).0.verify(0, "", "");
}

#[test]
fn h23_docker_schema_1() {
    both_refuse(spliced("{", r#""fsLayers":[],"#), "schema 1");
}

#[test]
fn h24_embedded_data_count_for_nothing() {
    // The bytes that count are those that the digest names, which are here.
    let other = |config: &Descriptor, layer: &Descriptor| {
        let mut manifest = manifest(config, std::slice::from_ref(layer));
        manifest["config"]["data"] = json!("e30=");
        manifest.to_string().into_bytes()
    };
    let (medium, layout) = with_manifest(other);
    medium.verify(0, "", "");
    layout.export(0, "");
    // Nor do they stand in for bytes that are not.
    let made = Draft { manifest: Box::new(other), ..Draft::default() }.make();
    let config: Digest = made.image["platforms"][0]["config"]["digest"].as_str().unwrap().parse().unwrap();
    let medium = made.medium(|_| ());
    std::fs::remove_file(medium.at(&super::maker::blob(&config))).unwrap();
    medium.verify(4, "blob-missing", "");
}

#[test]
fn h25_urls_are_never_fetched() {
    for url in ["http://127.0.0.1:1/x", "file:///etc/passwd"] {
        let elsewhere = move |config: &Descriptor, layer: &Descriptor| {
            let mut manifest = manifest(config, std::slice::from_ref(layer));
            manifest["layers"][0]["urls"] = json!([url]);
            manifest["layers"][0]["mediaType"] =
                json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
            manifest.to_string().into_bytes()
        };
        let made = Draft { manifest: Box::new(elsewhere), ..Draft::default() }.make();
        let layer = Digest::of(&super::maker::tar(b"content"));
        let layout = made.layout();
        std::fs::remove_file(layout.at(&super::maker::blob(&layer))).unwrap();
        layout.export(1, "foreign layer");
    }
}

#[test]
fn h26_a_subject_outside_the_set_is_not_followed() {
    both_pass(spliced(
        "{",
        r#""subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:abababababababababababababababababababababababababababababababab","size":2},"#,
    ));
}

fn both_pass((medium, layout): (Stick, Stick)) {
    medium.verify(0, "", "");
    layout.export(0, "");
}

/// `levels` indexes around the manifest, each of which lists the one within `times` times.
fn nested(levels: usize, times: usize) -> RootOf {
    Box::new(move |manifest| {
        let mut inner = json!(manifest);
        inner["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let mut all = Vec::new();
        for _ in 0..levels {
            let bytes = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": vec![inner; times] })
                .to_string();
            inner = json!(Descriptor::of(INDEX, bytes.as_bytes()));
            all.push((INDEX, bytes.into_bytes()));
        }
        all
    })
}

#[test]
fn h45_a_chain_of_10_000_indexes() {
    Draft { root: nested(10_000, 1), ..Draft::default() }
        .make()
        .layout()
        .export(1, "nested more than 4 deep");
    // A medium is read back as a whole, so fewer of them tell as much.
    let made = Draft { root: nested(200, 1), ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "image-chain", "does not give manifest");
    // As deep as is allowed.
    let made = Draft { root: nested(4, 1), ..Draft::default() }.make();
    made.medium(|_| ()).verify(0, "", "");
    made.layout().export(0, "");
}

#[test]
fn h46_a_diamond_of_2_to_the_40_paths() {
    let made = Draft { root: nested(40, 2), ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "image-chain", "does not give manifest");
    made.layout().export(1, "nested more than 4 deep");
    // No deeper than is allowed, and 2000^4 paths.
    let made = Draft { root: nested(4, 2000), ..Draft::default() }.make();
    made.medium(|_| ()).verify(0, "", "");
    made.layout().export(0, "");
}

#[test]
fn h46_a_diamond_among_the_entries_of_another_tool() {
    let made = Draft { root: nested(4, 2000), ..Draft::default() }.make();
    let stick = made.layout();
    stick.seal(
        1,
        {
            let mut record = made.record();
            for list in ["images", "layers", "blobs"] {
                record[list] = json!([]);
            }
            record
        }
        .to_string()
        .as_bytes(),
    );
    stick.verify(0, "index-foreign", "an entry of another tool");
}

#[test]
fn h47_an_entry_that_names_its_own_tag() {
    let looped = |manifest: &Descriptor| {
        let mut entry = json!(manifest);
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": NAME });
        vec![(INDEX, json!({ "schemaVersion": 2, "manifests": [entry], "annotations": { "io.containerd.image.name": NAME } }).to_string().into_bytes())]
    };
    let made = Draft { root: Box::new(looped), ..Draft::default() }.make();
    made.medium(|_| ()).verify(0, "", "");
    made.layout().export(0, "");
}

#[test]
fn a_manifest_under_another_platform_than_its_own() {
    // The index is upstream's own, and has it for another platform.
    let indexed = |platform: Option<&'static str>| -> RootOf {
        Box::new(move |manifest| {
            let mut entry = json!(manifest);
            if let Some(architecture) = platform {
                entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            }
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
            vec![(INDEX, index.to_string().into_bytes())]
        })
    };
    let made = Draft { root: indexed(Some("arm64")), ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "image-chain", "does not give manifest");
    // No index says for which one it is: its config does.
    let arm64 = |mut config: Value| {
        config["architecture"] = json!("arm64");
        config.to_string().into_bytes()
    };
    for root in [indexed(None), Box::new(|_: &Descriptor| Vec::new())] {
        let made = Draft { root, config: Box::new(arm64), ..Draft::default() }.make();
        made.medium(|_| ()).verify(4, "image-chain", "is for linux/arm64, and the record says linux/amd64");
    }
    // Where an index says so, it is believed, as containerd does.
    Draft { root: indexed(Some("amd64")), config: Box::new(arm64), ..Draft::default() }
        .make()
        .medium(|_| ())
        .verify(0, "", "");
    let twice = |record: &mut Value| {
        let platform = record["images"][0]["platforms"][0].clone();
        record["images"][0]["platforms"].as_array_mut().unwrap().push(platform);
    };
    Draft::default().make().medium(twice).refused("two manifests for one platform");
}

#[test]
fn h48_one_digest_with_two_sizes_or_types() {
    let made = Draft::default().make();
    let size = made.root.size;
    made.medium(|record| record["images"][0]["carried"]["size"] = json!(size + 1)).refused("bytes and with");
    made.medium(|record| record["images"][0]["carried"]["mediaType"] = json!(LAYER))
        .refused("two kinds of blob");
    let lying = |config: &Descriptor, layer: &Descriptor| {
        let other = Descriptor { size: layer.size + 1, ..layer.clone() };
        manifest(config, &[layer.clone(), other]).to_string().into_bytes()
    };
    let twice = |value: Value| {
        let id = value["rootfs"]["diff_ids"][0].clone();
        let mut value = value;
        value["rootfs"]["diff_ids"] = json!([id, id]);
        value.to_string().into_bytes()
    };
    let made = Draft { manifest: Box::new(lying), config: Box::new(twice), ..Draft::default() }.make();
    made.layout().export(1, "bytes and with");
}

#[test]
fn h49_a_manifest_as_a_layer_and_a_layer_as_a_config() {
    let confused = |config: &Descriptor, layer: &Descriptor| {
        let as_config = Descriptor { media_type: CONFIG.into(), ..layer.clone() };
        let as_layer = Descriptor { media_type: MANIFEST.into(), ..config.clone() };
        manifest(&as_config, &[as_layer]).to_string().into_bytes()
    };
    let (medium, layout) = with_manifest(confused);
    medium.verify(4, "image-chain", "names another config");
    layout.export(1, "not an image config");
}

#[test]
fn h50_10_000_layers() {
    let tall = |config: &Descriptor, layer: &Descriptor| {
        manifest(config, &vec![layer.clone(); 10_000]).to_string().into_bytes()
    };
    both_refuse(with_manifest(tall), "10000 layers, more than the 512 allowed");
    let made = Draft::default().make();
    let diff_id = made.layers[0]["diffId"].clone();
    made.medium(|record| record["images"][0]["platforms"][0]["diffIds"] = json!(vec![diff_id; 513]))
        .refused("512 layers");
}

#[test]
fn h64_a_hundred_commits() {
    let made = Draft::default().make();
    let stick = made.medium(|_| ());
    for sequence in 1..=100_u64 {
        let mut record = made.record();
        record["sequence"] = json!(sequence);
        let padding = format!("{}{}", record, " ".repeat(100 << 10));
        stick.seal(sequence, padding.as_bytes());
    }
    // Those that are not looked at may be anything.
    for sequence in 1..=36_u64 {
        stick.write(&format!(".pannier/commits/{sequence:010}.json"), b"not looked at");
    }
    stick.verify(0, "", "");
    let listed = ends(0, ["list", "--json", text(&stick.path())]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["commit"], 100);
    stick.write(&format!(".pannier/commits/{:010}.json", 37), b"looked at");
    stick.verify(4, "record-damaged", "does not begin as a commit record does");
}

#[test]
fn a_record_that_contradicts_itself() {
    let made = Draft::default().make();
    let twice = |list: &'static str| {
        made.medium(move |record| {
            let first = record[list][0].clone();
            record[list].as_array_mut().unwrap().push(first);
        })
    };
    twice("blobs").refused("twice");
    twice("layers").refused("twice");
    twice("images").refused("stands for two images");
}

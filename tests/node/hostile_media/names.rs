//! Digests, names and hostile text: H27 to H32, H60 to H62.

use std::fs;

use pannier::image::Descriptor;
use serde_json::{Value, json};

use super::maker::{Draft, INDEX, Maker, NAME, Stick, bounded, is_plain, manifest};
use crate::support::carry::{run, text};

/// What a digest must never be, by the number of its case.
const DIGESTS: [(u32, &str); 12] = [
    (27, "sha256:../../../etc/shadow"),
    (27, "sha256:..%2f..%2fetc%2fshadow"),
    (28, "sha256:ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB"),
    (28, "sha256:ababababababababababababababababababababababababababababababab"),
    (28, "sha256:ababababababababababababababababababababababababababababababababab"),
    (28, "sha256:"),
    (28, "SHA256:abababababababababababababababababababababababababababababababab"),
    (29, "sha1:abababababababababababababababababababab"),
    (29, "foo:bar"),
    (30, "../sha256:abababababababababababababababababababababababababababababababab"),
    (30, "sha\u{0}256:abababababababababababababababababababababababababababababababab"),
    (30, "sha\\256:abababababababababababababababababababababababababababababababab"),
];

/// A medium with `digest` in the record, one with it in a manifest, a layout with it in `index.json`.
fn refused(digest: &str) {
    let made = Draft::default().make();
    made.medium(|record| record["images"][0]["carried"]["digest"] = json!(digest)).refused("is not a digest");
    let stick = made.layout();
    let index = fs::read_to_string(stick.at("index.json")).unwrap();
    let named = json!(digest).to_string();
    stick.write("index.json", index.replace(&json!(made.root.digest).to_string(), &named).as_bytes());
    stick.export(1, "is not a digest");
    let within = json!(digest).to_string();
    let lying = move |config: &Descriptor, layer: &Descriptor| {
        let text = manifest(config, std::slice::from_ref(layer)).to_string();
        text.replace(&json!(layer.digest).to_string(), &within).into_bytes()
    };
    let made = Draft { manifest: Box::new(lying), ..Draft::default() }.make();
    made.medium(|_| ()).verify(4, "image-chain", "is not a digest");
    made.layout().export(1, "is not a digest");
}

fn all(number: u32) {
    let digests = DIGESTS.iter().filter(|(case, _)| *case == number);
    digests.for_each(|(_, digest)| refused(digest));
}

#[test]
fn h27_a_digest_that_climbs() {
    all(27);
}

#[test]
fn h28_a_digest_of_other_form() {
    all(28);
}

#[test]
fn h29_a_digest_of_another_algorithm() {
    all(29);
}

#[test]
fn h30_an_algorithm_that_is_a_path() {
    all(30);
    refused(&format!("{}:ab", "a".repeat(300)));
}

/// Text that a terminal would act on, or that climbs.
const TEXTS: [&str; 6] = [
    "../../../etc/passwd:1",
    "example.org/a\nexample.org/b:1",
    "example.org/\u{1b}[2J\u{1b}]0;owned\u{7}:1",
    "example.org/\u{202e}gpj.exe:1",
    "example.org/\u{9b}31m:1",
    "",
];

#[test]
fn h31_names_that_are_none() {
    let long = "a".repeat(1 << 20);
    for name in TEXTS.into_iter().chain([long.as_str()]) {
        let made = Draft::default().make();
        made.medium(|record| record["images"][0]["names"] = json!([name]))
            .refused("is not an image reference");
        // In a layout it is no name, so there is nothing that a pod could ask for.
        let stick = made.layout();
        let index = json!({ "manifests": [{ "mediaType": made.root.media_type, "digest": made.root.digest,
            "size": made.root.size, "annotations": { "io.containerd.image.name": name } }] });
        stick.write("index.json", index.to_string().as_bytes());
        stick.export(1, "no full name");
    }
}

#[test]
fn h31_hostile_text_reaches_no_terminal() {
    let text_of = TEXTS.concat();
    let hostile = text_of.clone();
    let made = Draft {
        manifest: Box::new(move |config, layer| {
            let mut manifest = manifest(config, std::slice::from_ref(layer));
            manifest["config"]["mediaType"] = json!(hostile);
            manifest["layers"][0]["mediaType"] = json!(hostile);
            manifest.to_string().into_bytes()
        }),
        ..Draft::default()
    }
    .make();
    let stick = made.layout();
    stick.export(1, "");
    let medium = made.medium(|record| {
        record["tool"] = json!(text_of);
        record["created"] = json!(text_of);
        record["images"][0]["platforms"][0]["platform"]["architecture"] = json!(text_of);
        record["images"][0]["referrers"] = json!([]);
    });
    medium.write(&format!("blobs/sha256/{}", "x\u{1b}[2J"), b"");
    medium.verify(4, "blob-name", "");
    for arguments in [&["list", "--digests", "--referrers"][..], &["list", "--json"], &["verify", "-v"]] {
        let output = bounded(arguments.iter().copied().chain([text(&medium.path())]));
        for printed in [output.stdout, output.stderr] {
            let printed = String::from_utf8(printed).unwrap();
            assert!(is_plain(&printed), "{printed:?}");
        }
    }
}

#[test]
fn h32_one_name_for_two_images() {
    let one = Draft::default().make();
    let other = Draft {
        config: Box::new(|value| value.to_string().replace("amd64", "arm64").into_bytes()),
        ..Draft::default()
    }
    .make();
    let stick = one.layout();
    for (digest, (bytes, _)) in &other.blobs {
        stick.write(&super::maker::blob(digest), bytes);
    }
    let entry = |made: &Maker| {
        let mut entry = json!(made.root);
        entry["annotations"] = json!({ "io.containerd.image.name": NAME });
        entry
    };
    stick.write("index.json", json!({ "manifests": [entry(&one), entry(&other)] }).to_string().as_bytes());
    stick.export(1, "is the name of two images");
}

#[test]
fn h60_platforms_that_match_nothing() {
    let made = Draft {
        root: Box::new(|manifest| {
            let entry = |os: &str, variant: &str, more: Value| {
                let mut entry = json!(manifest);
                entry["platform"] =
                    json!({ "os": os, "architecture": "amd64", "variant": variant, "os.version": more });
                entry
            };
            let entries = [
                entry("Linux", "", json!("10.0")),
                entry("linux", "v9\u{202e}", json!(null)),
                entry("windows", "", json!("1")),
            ];
            vec![(INDEX, json!({ "schemaVersion": 2, "manifests": entries }).to_string().into_bytes())]
        }),
        ..Draft::default()
    }
    .make();
    let stick = made.layout();
    // Never the first one, and what there is is said.
    stick.export(1, "windows(1)/amd64");
    let medium = Draft::default().make().medium(|record| {
        record["images"][0]["platforms"][0]["platform"] = json!({ "os": "plan9", "architecture": "mips" });
    });
    medium.verify(4, "image-chain", "the record says plan9/mips");
}

#[test]
fn h61_verify_writes_json_whatever_it_finds() {
    let made = Draft::default().make();
    let stick = made.medium(|_| ());
    for name in ["\"}],\"findings\":[]", "\u{202e}", "a\nb", "\u{1b}]8;;http://x\u{7}"] {
        stick.write(&format!("blobs/sha256/{}", name.replace('/', ":")), b"");
    }
    use std::os::unix::ffi::OsStrExt;
    fs::write(stick.at("blobs/sha256").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    let ran = run(0, ["verify", "--json", text(&stick.path())]);
    let line = ran.stdout();
    let documents = line.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let report = { documents }.find(|document| document["findings"].is_array()).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 5, "{report}");
    assert!(line.lines().all(|line| line.chars().all(|c| !c.is_control() && c != '\u{202e}')), "{line:?}");
    run(0, ["verify", text(&stick.path())]);
}

#[test]
fn h62_errors_hold_no_bytes_of_blobs() {
    const SECRET: &str = "root:$6$do-not-print-this";
    let made = Draft {
        manifest: Box::new(|_, _| format!("{SECRET}\n").into_bytes()),
        config: Box::new(|_| SECRET.into()),
        layer: SECRET.into(),
        ..Draft::default()
    }
    .make();
    let stick: Stick = made.medium(|_| ());
    stick.write("index.json", SECRET.as_bytes());
    for arguments in [&["verify", "--deep", "-v"][..], &["verify", "--deep", "--json"]] {
        let output = bounded(arguments.iter().copied().chain([text(&stick.path())]));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(!said.contains("do-not-print") && !said.contains("$6$"), "{said}");
    }
    let layout = made.layout();
    layout.export(1, "not a manifest");
}

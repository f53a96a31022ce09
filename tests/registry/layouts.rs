//! Layouts as other tools write them: bare tags, and entries that are no images of their own.

use std::fs;
use std::path::Path;

use crate::support::carry::{blobs, run};
use crate::support::pushed::{INDEX, Layout, MANIFEST};
use crate::support::registry::{Server, Setup, have, run as tool};
use pannier::image::Descriptor;
use serde_json::{Value, json};
use tempfile::TempDir;

const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn small(text: &str) -> Layout {
    Layout::new(&["linux/amd64", "linux/arm64"], &[("a", text.into())])
}

/// A manifest that refers to `subject`, or to nothing.
fn artifact(layout: &Layout, subject: Option<&Descriptor>, text: &str) -> Descriptor {
    let payload = layout.blob("text/x", text.as_bytes());
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "test/thing",
        "config": empty, "layers": [payload]});
    if let Some(subject) = subject {
        manifest["subject"] = json!(subject);
    }
    layout.blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap())
}

fn entry(descriptor: &Descriptor, annotations: Value) -> Value {
    let mut entry = json!(descriptor);
    entry["annotations"] = annotations;
    entry
}

fn list(layout: &Path, entries: &[Value]) {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

/// Exports from a layout into a new medium.
#[track_caller]
fn export(status: i32, layout: &Path, more: &[&str]) -> (TempDir, String) {
    let medium = tempfile::tempdir().unwrap();
    let from = format!("oci:{}", layout.display());
    let arguments = ["export", "--from", &from, "--platform", "linux/amd64", "--to"];
    let said = run(status, [&arguments[..], &[medium.path().to_str().unwrap()], more].concat()).stderr();
    (medium, said)
}

fn images(medium: &TempDir) -> Vec<Value> {
    let listed = run(0, ["list", medium.path().to_str().unwrap(), "--json"]).json();
    listed["images"].as_array().unwrap().clone()
}

#[test]
fn an_image_is_chosen_by_the_bare_tag_that_skopeo_gave_it() {
    if !have(&["skopeo"]) {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    for name in ["nginx", "v1.2-RC1"] {
        let layout = small(name);
        layout.list(&[]);
        let from = format!("oci:{}:image", layout.path().display());
        let to = format!("oci:{}:{name}", room.path().display());
        tool("skopeo", &["--insecure-policy", "copy", "--quiet", "--all", &from, &to]);
    }
    for name in ["nginx", "v1.2-RC1"] {
        let (medium, _) = export(0, room.path(), &[name, "--as", "quay.io/team/app:1"]);
        let images = images(&medium);
        assert_eq!(images[0]["names"], json!(["quay.io/team/app:1"]));
        assert_eq!(images[0]["original"], json!(small(name).root.digest));
        run(0, ["verify", medium.path().to_str().unwrap(), "--deep"]);
    }
    let (_, said) = export(2, room.path(), &["nginx"]);
    assert!(said.contains("--as docker.io/library/nginx:1"), "{said}");
    let (_, said) = export(1, room.path(), &["--all"]);
    assert!(said.contains("nginx, v1.2-RC1") && said.contains("nginx --as"), "{said}");
    let (_, said) = export(1, room.path(), &["redis", "--as", "redis:1"]);
    assert!(said.contains("nginx, v1.2-RC1"), "{said}");
    let (_, said) = export(2, room.path(), &["nginx", "v1.2-RC1", "--as", "redis:1"]);
    assert!(said.contains("--as names one image"), "{said}");
}

#[test]
fn what_oras_copies_with_its_referrers_is_one_image() {
    if !have(&["oras", "skopeo", "docker-registry"]) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = small("a");
    let sbom = artifact(&layout, Some(&layout.root), "sbom");
    layout.list(&[("sbom", &sbom)]);
    let name = format!("{}/team/app:1", server.name());
    layout.push(&name, &[]);
    let from = format!("{}:sbom", layout.path().display());
    let to = format!("{}/team/app@{}", server.name(), sbom.digest);
    tool("oras", &["cp", "--from-oci-layout", &from, "--to-plain-http", &to]);
    let room = tempfile::tempdir().unwrap();
    let to = format!("{}:1", room.path().join("copy").display());
    tool("oras", &["cp", "-r", "--from-plain-http", &name, "--to-oci-layout", &to]);

    let (medium, _) = export(0, &room.path().join("copy"), &["--all", "--as", "team/app:1"]);
    let images = images(&medium);
    assert_eq!((images.len(), &images[0]["names"]), (1, &json!(["docker.io/team/app:1"])));
    assert_eq!(images[0]["original"], json!(layout.root.digest));
    assert_eq!(images[0]["referrers"].as_array().unwrap().len(), 1);
    assert!(blobs(medium.path()).into_values().any(|blob| blob == b"sbom"));
    export(0, &room.path().join("copy"), &["--as", "team/app:1"]);
    export(0, &room.path().join("copy"), &["1", "--as", "team/app:1"]);
}

#[test]
fn what_an_index_lists_and_what_refers_to_something_is_no_image_of_its_own() {
    let layout = small("a");
    let sbom = artifact(&layout, Some(&layout.manifests[0]), "sbom");
    let chart = artifact(&layout, None, "chart");
    // As `oras backup --include-referrers` writes it.
    let mut entries = vec![entry(&layout.root, json!({ REF_NAME: "1" })), json!(sbom), json!(chart)];
    entries.extend(layout.manifests.iter().map(|manifest| json!(manifest)));
    list(layout.path(), &entries);
    let (medium, _) = export(0, layout.path(), &["--all", "--as", "team/app:1"]);
    let images = images(&medium);
    assert_eq!(images.len(), 1);
    assert_eq!(images[0]["referrers"][0]["subject"], json!(layout.manifests[0].digest));
    let (medium, _) = export(0, layout.path(), &["--all", "--as", "team/app:1", "--no-referrers"]);
    assert!(!blobs(medium.path()).into_values().any(|blob| blob == b"sbom"));
}

#[test]
fn an_image_and_its_signatures_may_have_one_name() {
    // As `cosign save` and Hauler write it; cosign's own manifests name no subject.
    let layout = small("a");
    let (signature, attestation) = (artifact(&layout, None, "signed"), artifact(&layout, None, "attested"));
    let named = |descriptor, kind: &str| {
        let kind = format!("dev.cosignproject.cosign/{kind}");
        entry(descriptor, json!({ "kind": kind, "io.containerd.image.name": "quay.io/team/app:1" }))
    };
    list(
        layout.path(),
        &[named(&layout.root, "imageIndex"), named(&signature, "sigs"), named(&attestation, "atts")],
    );
    let (medium, _) = export(0, layout.path(), &["--all"]);
    let images = images(&medium);
    assert_eq!(images.len(), 1);
    let names: Vec<&Value> =
        images[0]["referrers"].as_array().unwrap().iter().map(|referrer| &referrer["name"]).collect();
    let tag = |suffix: &str| json!(format!("quay.io/team/app:sha256-{}.{suffix}", layout.root.digest.hex()));
    assert!(names.len() == 2 && names.contains(&&tag("sig")) && names.contains(&&tag("att")), "{names:?}");
    run(0, ["verify", medium.path().to_str().unwrap(), "--deep"]);
}

#[test]
fn cosigns_tags_and_the_fallback_tag_are_no_images() {
    let layout = small("a");
    let signature = artifact(&layout, None, "signed");
    let (good, stray) = (artifact(&layout, Some(&layout.root), "good"), artifact(&layout, None, "stray"));
    let fallback = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [good, stray]});
    let fallback = layout.blob(INDEX, fallback.to_string().as_bytes());
    let stem = format!("sha256-{}", layout.root.digest.hex());
    list(
        layout.path(),
        &[
            entry(&layout.root, json!({ REF_NAME: "quay.io/team/app:1" })),
            entry(&signature, json!({ REF_NAME: format!("quay.io/team/app:{stem}.sig") })),
            entry(&fallback, json!({ REF_NAME: stem })),
        ],
    );
    let (medium, _) = export(0, layout.path(), &["--all"]);
    let images = images(&medium);
    assert_eq!(images.len(), 1);
    assert_eq!(images[0]["referrers"].as_array().unwrap().len(), 2);
    let there: Vec<Vec<u8>> = blobs(medium.path()).into_values().collect();
    assert!(there.contains(&b"signed".to_vec()) && there.contains(&b"good".to_vec()));
    assert!(!there.contains(&b"stray".to_vec()));
}

#[test]
fn a_name_of_two_images_matters_to_who_asks_for_it() {
    let layout = small("a");
    let named = |descriptor, name: &str| entry(descriptor, json!({ "io.containerd.image.name": name }));
    let (one, other) = (&layout.manifests[0], &layout.manifests[1]);
    list(
        layout.path(),
        &[
            named(one, "quay.io/twice:1"),
            named(other, "quay.io/twice:1"),
            named(&layout.root, "quay.io/once:1"),
        ],
    );
    export(0, layout.path(), &["quay.io/once:1"]);
    export(0, layout.path(), &[&format!("quay.io/twice@{}", one.digest)]);
    for more in [&["quay.io/twice:1"][..], &["--all"]] {
        let (_, said) = export(1, layout.path(), more);
        assert!(said.contains("the name of two images"), "{said}");
    }
}

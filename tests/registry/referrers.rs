//! Signatures and SBOMs come along from a registry, and other tools find them on the medium.

use std::fs;
use std::path::Path;

use crate::support::carry::{blobs, run};
use crate::support::node::{Node, missing};
use crate::support::pushed::{INDEX, Layout, MANIFEST, noise};
use crate::support::registry::{Faulty, Server, Setup, have, reply, run as tool};
use serde_json::{Value, json};

const TOOLS: [&str; 4] = ["docker-registry", "htpasswd", "skopeo", "oras"];
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// An image of two platforms in a registry, signed by cosign's tag scheme, with an SBOM that refers
/// to the manifest of linux/amd64.
struct Signed {
    server: Server,
    layout: Layout,
    /// The SBOM's text.
    sbom: Vec<u8>,
    /// The payload that cosign signs.
    payload: Vec<u8>,
}

impl Signed {
    fn new() -> Self {
        let server = Server::start(Setup::default());
        let layout = Layout::new(&["linux/amd64", "linux/arm64"], &[("a", noise(1, 50_000))]);
        let name = format!("{}/team/app", server.name());
        let payload = json!({"critical": {"identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": layout.root.digest}, "type": "cosign container image signature"},
            "optional": null});
        let payload = serde_json::to_vec(&payload).unwrap();
        // What `cosign sign --upload` leaves: an image whose layer is the signed payload.
        let config =
            json!({"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}});
        let config =
            layout.blob("application/vnd.oci.image.config.v1+json", &serde_json::to_vec(&config).unwrap());
        let mut layer = serde_json::to_value(layout.blob(SIMPLE_SIGNING, &payload)).unwrap();
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": "MEUCIQDsigned"});
        let signature =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let signature = layout.blob(MANIFEST, &serde_json::to_vec(&signature).unwrap());
        layout.list(&[("signature", &signature)]);
        layout.push(&format!("{name}:1"), &[]);
        layout.push_tag("signature", &format!("{name}:sha256-{}.sig", layout.root.digest.hex()), &[]);

        let files = tempfile::tempdir().unwrap();
        let sbom = br#"{"spdxVersion":"SPDX-2.3","name":"app"}"#.to_vec();
        let file = files.path().join("sbom.spdx.json");
        fs::write(&file, &sbom).unwrap();
        let subject = format!("{name}@{}", layout.manifests[0].digest);
        let file = format!("{}:application/spdx+json", file.display());
        let attach = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type"];
        tool("oras", &[&attach[..], &["application/spdx+json", &subject, &file]].concat());
        Self { server, layout, sbom, payload }
    }

    fn export(&self, to: &Path, more: &[&str]) {
        let name = self.server.name();
        let image = format!("{name}/team/app:1");
        let arguments = ["export", &image, "--platform", "linux/amd64", "--insecure", &name, "--to"];
        run(0, [&arguments[..], &[to.to_str().unwrap()], more].concat());
    }

    /// The tag, in the form that cosign looks for.
    fn signature_name(&self) -> String {
        format!("{}/team/app:sha256-{}.sig", self.server.name(), self.layout.root.digest.hex())
    }
}

#[test]
fn signatures_and_sboms_are_carried_listed_and_readable_by_others() {
    if !have(&TOOLS) {
        return;
    }
    let signed = Signed::new();
    let medium = tempfile::tempdir().unwrap();
    signed.export(medium.path(), &[]);
    let directory = medium.path().to_str().unwrap();

    // Every blob as it was.
    let there: Vec<Vec<u8>> = blobs(medium.path()).into_values().collect();
    assert!(there.contains(&signed.sbom) && there.contains(&signed.payload));

    let listed = run(0, ["list", directory, "--referrers"]).stdout();
    for word in ["application/spdx+json", SIMPLE_SIGNING, &signed.signature_name()] {
        assert!(listed.contains(word), "no {word} in {listed}");
    }
    assert!(!run(0, ["list", directory]).stdout().contains("spdx"));
    let json = run(0, ["list", directory, "--json"]).json();
    let referrers = json["images"][0]["referrers"].as_array().unwrap().clone();
    assert_eq!(referrers.len(), 2, "{referrers:?}");
    run(0, ["verify", directory, "--deep"]);

    // oras reads the SBOM by the digest that the listing gives.
    let sbom = referrers.iter().find(|r| r["artifactType"] == "application/spdx+json").unwrap();
    assert_eq!(sbom["subject"], signed.layout.manifests[0].digest.to_string());
    let digest = sbom["digest"].as_str().unwrap();
    let manifest = tool("oras", &["manifest", "fetch", "--oci-layout", &format!("{directory}@{digest}")]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["subject"]["digest"], sbom["subject"]);
    let layer = format!("{directory}@{}", manifest["layers"][0]["digest"].as_str().unwrap());
    let fetched = tool("oras", &["blob", "fetch", "--oci-layout", "--output", "-", &layer]);
    assert_eq!(fetched.as_bytes(), signed.sbom);

    // skopeo finds the signature by the name that cosign gives it.
    let copy = tempfile::tempdir().unwrap();
    let from = format!("oci:{directory}:{}", signed.signature_name());
    let to = format!("oci:{}:sig", copy.path().display());
    tool("skopeo", &["--insecure-policy", "copy", "--quiet", &from, &to]);
    assert!(blobs(copy.path()).into_values().any(|blob| blob == signed.payload));

    // Again: there is nothing to do. And without them they stay where they are.
    let before = blobs(medium.path());
    signed.export(medium.path(), &[]);
    signed.export(medium.path(), &["--no-referrers"]);
    let json = run(0, ["list", directory, "--json"]).json();
    assert_eq!(
        (json["commit"].as_u64(), json["images"][0]["referrers"].as_array().unwrap().len()),
        (Some(1), 2)
    );
    assert!(blobs(medium.path()) == before);

    // From medium to medium they come along too.
    let second = tempfile::tempdir().unwrap();
    let from = format!("medium:{directory}");
    let to = second.path().to_str().unwrap();
    run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", to]);
    let json = run(0, ["list", to, "--json"]).json();
    assert_eq!(json["images"][0]["referrers"].as_array().unwrap(), &referrers);
    assert!(blobs(second.path()) == before);
}

#[test]
fn they_are_left_when_not_wanted_and_added_when_wanted_later() {
    if !have(&TOOLS) {
        return;
    }
    let signed = Signed::new();
    let medium = tempfile::tempdir().unwrap();
    let directory = medium.path().to_str().unwrap();
    signed.export(medium.path(), &["--no-referrers"]);
    let count =
        || run(0, ["list", directory, "--json"]).json()["images"][0]["referrers"].as_array().unwrap().len();
    assert_eq!(count(), 0);
    assert!(!blobs(medium.path()).into_values().any(|blob| blob == signed.sbom));
    signed.export(medium.path(), &[]);
    assert_eq!(count(), 2);
    run(0, ["verify", directory]);
}

#[test]
fn the_referrers_api_is_asked_page_by_page() {
    if !have(&["skopeo"]) {
        return;
    }
    let layout = Layout::new(&["linux/amd64"], &[("a", b"a".to_vec())]);
    let sbom = layout.blob("text/spdx", b"sbom");
    let attestation = layout.blob("text/attestation", b"attestation");
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let artifact = |layer| {
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "test/thing",
            "config": empty, "layers": [layer], "subject": layout.root});
        layout.blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap())
    };
    let pages = [artifact(&sbom), artifact(&attestation)].map(|manifest| {
        let page = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
        serde_json::to_vec(&page).unwrap()
    });
    let directory = layout.path().join("blobs/sha256");
    let root = layout.root.digest;
    let server = Faulty::start(move |asked| {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let last = path.rsplit('/').next().unwrap();
        let digest = if last == "1" { root.to_string() } else { last.to_owned() };
        if path.contains("/referrers/") {
            let page =
                reply(200, pages[usize::from(query == "n=1&last=x")].clone()).with("Content-Type", INDEX);
            return match query {
                "" => page.with("Link", format!("<{path}?n=1&last=x>; rel=\"next\"")),
                _ => page,
            };
        }
        match digest.strip_prefix("sha256:").and_then(|hex| fs::read(directory.join(hex)).ok()) {
            Some(bytes) if path.contains("/manifests/") => reply(200, bytes).with("Content-Type", MANIFEST),
            Some(bytes) => reply(200, bytes),
            None => reply(if path == "/v2/" { 200 } else { 404 }, ""),
        }
    });
    let (medium, name) = (tempfile::tempdir().unwrap(), server.name());
    let to = medium.path().to_str().unwrap();
    let image = format!("{name}/app:1");
    run(0, ["export", &image, "--platform", "linux/amd64", "--insecure", &name, "--to", to]);
    let json = run(0, ["list", to, "--json"]).json();
    let referrers = json["images"][0]["referrers"].as_array().unwrap();
    assert_eq!(referrers.len(), 2, "{referrers:?}");
    let there: Vec<_> = blobs(medium.path()).into_values().collect();
    assert!(there.contains(&b"sbom".to_vec()) && there.contains(&b"attestation".to_vec()));
    run(0, ["verify", to]);
}

#[test]
fn a_damaged_signature_is_left_unless_all_are_required() {
    if !have(&TOOLS) {
        return;
    }
    let signed = Signed::new();
    let storage = signed.server.directory.path().join("storage/docker/registry/v2/blobs/sha256");
    let hex = pannier::image::Digest::of(&signed.payload).hex();
    let mut damaged = signed.payload.clone();
    damaged[0] ^= 1;
    fs::write(storage.join(&hex[..2]).join(&hex).join("data"), damaged).unwrap();
    let medium = tempfile::tempdir().unwrap();
    let (name, to) = (signed.server.name(), medium.path().to_str().unwrap());
    let image = format!("{name}/team/app:1");
    let arguments = ["export", &image, "--platform", "linux/amd64", "--insecure", &name, "--to", to];
    let said = run(4, [&arguments[..], &["--require-referrers"]].concat()).stderr();
    assert!(said.contains(&hex), "{said}");
    let said = run(0, arguments).stderr();
    assert!(said.contains("warning: ") && said.contains(&hex), "{said}");
    let json = run(0, ["list", to, "--json"]).json();
    assert_eq!(json["images"][0]["referrers"].as_array().unwrap().len(), 1);
    run(0, ["verify", to, "--deep"]);
}

#[test]
fn ctr_imports_the_images_all_the_same() {
    if !have(&TOOLS) {
        return;
    }
    let version = "1.7";
    if let Some(reason) = missing(version) {
        crate::support::skipped(&reason);
        return;
    }
    let signed = Signed::new();
    let room = tempfile::tempdir().unwrap();
    let medium = room.path().join("medium");
    signed.export(&medium, &[]);
    let archive = room.path().join("medium.tar");
    let directory = medium.to_str().unwrap();
    tool("tar", &["-cf", archive.to_str().unwrap(), "-C", directory, "oci-layout", "index.json", "blobs"]);
    let node = Node::start_with(version, &["cri=off"]);
    let said = node.ctr(&["images", "import", archive.to_str().unwrap()]);
    assert!(said.contains(&format!("{}/team/app:1", signed.server.name())), "{said}");
    println!("{said}\n{}", node.ctr(&["images", "ls"]));
}

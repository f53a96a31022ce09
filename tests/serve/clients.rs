//! crane, skopeo and oras pull from a mirror.

use std::fs;
use std::path::Path;

use pannier::image::Digest;
use serde_json::Value;

use crate::mirror::{APP, BOTH, KEPT, Mirror, Room};
use crate::support::carry::text;
use crate::support::registry::{have, run as tool};

/// Every blob below a document of a layout has the digest that lists it; how many there are.
fn whole(layout: &Path, digest: Digest) -> usize {
    let bytes = fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { return 1 };
    let lists = ["manifests", "layers"].iter().filter_map(|key| document[key].as_array()).flatten();
    let config = document.get("config").filter(|config| config["digest"].is_string());
    1 + lists
        .chain(config)
        .map(|blob| whole(layout, blob["digest"].as_str().unwrap().parse().unwrap()))
        .sum::<usize>()
}

#[test]
fn skopeo_copies_every_image_with_all_its_platforms() {
    if !have(&["skopeo"]) {
        return;
    }
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    for (name, path, blobs) in
        [(APP, "app:1", 4), (BOTH, "team/both:2", 8), (KEPT, "registry.local/team/kept:3", 3)]
    {
        let from = format!("docker://{}/{path}", mirror.name());
        let to = room.path(&format!("skopeo-{blobs}"));
        let layout = format!("oci:{}:x", to.display());
        tool("skopeo", &["copy", "--all", "--quiet", "--src-tls-verify=false", &from, &layout]);
        let index: Value = serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
        let digest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
        let image = room.image(name);
        assert_eq!(digest, if name == KEPT { image.original.digest } else { image.carried.digest });
        assert_eq!(whole(&to, digest), blobs, "{name}");
    }
}

#[test]
fn crane_pulls_and_lists_every_image_and_validates_what_is_gzip() {
    if !have(&["crane"]) {
        return;
    }
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    for (name, path) in [(APP, "app:1"), (BOTH, "registry.local/team/both:2"), (KEPT, "team/kept:3")] {
        let remote = format!("{}/{path}", mirror.name());
        // crane cannot decode zstd, and copies it all the same.
        let to = room.path(&format!("crane-{}", path.len()));
        tool("crane", &["pull", "--insecure", "--format", "oci", &remote, text(&to)]);
        let digest = tool("crane", &["digest", "--insecure", &remote]);
        let image = room.image(name);
        let expected = if name == KEPT { image.original.digest } else { image.carried.digest };
        assert_eq!(digest.trim(), expected.to_string());
        assert!(whole(&to, expected) >= 3);
    }
    let by_digest = format!("{}/team/kept@{}", mirror.name(), room.image(KEPT).original.digest);
    tool("crane", &["validate", "--insecure", "--remote", &by_digest]);
    let catalog = tool("crane", &["catalog", "--insecure", &mirror.name()]);
    assert_eq!(catalog.lines().count(), 3, "{catalog}");
    let tags = tool("crane", &["ls", "--insecure", &format!("{}/team/both", mirror.name())]);
    assert_eq!(tags.trim(), "2");
}

#[test]
fn oras_copies_and_finds_what_refers_to_an_image() {
    if !have(&["oras", "docker-registry", "skopeo"]) {
        return;
    }
    use crate::support::carry::run;
    use crate::support::pushed::{Layout, noise};
    use crate::support::registry::{Server, Setup};
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(1, 50_000))]);
    let reference = format!("{}/team/app:1", server.name());
    layout.push(&reference, &[]);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("sbom"), "{}").unwrap();
    let type_ =
        ["attach", "--plain-http", "--artifact-type", "application/spdx+json", "--disable-path-validation"];
    let sbom = format!("{}:application/json", at("sbom").display());
    tool("oras", &[&type_[..], &[&reference, &sbom]].concat());
    let arguments = [
        "export",
        &reference,
        "--insecure",
        &server.name(),
        "--platform",
        "linux/amd64",
        "--compression",
        "none",
    ];
    run(0, arguments.into_iter().chain(["--to", text(&at("m"))]));
    let mirror = Mirror::of(&at("m"), &[]);
    let served = format!("{}/team/app:1", mirror.name());
    let found = tool("oras", &["discover", "--plain-http", "--format", "json", &served]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let entries = found["referrers"].as_array().or(found["manifests"].as_array()).unwrap();
    assert_eq!(entries.len(), 1, "{found}");
    assert_eq!(entries[0]["artifactType"], "application/spdx+json");
    let to = at("oras");
    let target = format!("{}:x", to.display());
    tool("oras", &["copy", "-r", "--from-plain-http", "--to-oci-layout", &served, &target]);
    assert_eq!(whole(&to, layout.root.digest), 3);
    whole(&to, entries[0]["digest"].as_str().unwrap().parse().unwrap());
}

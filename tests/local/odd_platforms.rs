//! Images whose platform is missing, more than one release of a system, or not to be passed on.

use std::fs;

use crate::support::carry::run;
use crate::support::pushed::{INDEX, Layout};
use pannier::image::Descriptor;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// An image in a layout, in pieces that can be changed.
struct Odd(Layout);

impl Odd {
    fn new() -> Self {
        Self(Layout::new(&["linux/amd64"], &[("a", b"a".to_vec())]))
    }

    /// A manifest of the image with its config and itself changed.
    fn manifest(&self, config: impl Fn(&mut Value), manifest: impl Fn(&mut Value)) -> Descriptor {
        let layout = &self.0;
        let mut own: Value = serde_json::from_slice(&layout.read(&layout.manifests[0])).unwrap();
        let old: Descriptor = serde_json::from_value(own["config"].clone()).unwrap();
        let mut changed: Value = serde_json::from_slice(&layout.read(&old)).unwrap();
        config(&mut changed);
        own["config"] = json!(layout.blob(CONFIG, changed.to_string().as_bytes()));
        manifest(&mut own);
        layout.blob(&layout.manifests[0].media_type, own.to_string().as_bytes())
    }

    /// Lists the image as docker.io/team/app:1: one manifest, or an index of those with a platform each.
    fn list(&self, manifests: &[(&Descriptor, Value)]) {
        let root = match manifests {
            [(single, Value::Null)] => (*single).clone(),
            _ => {
                let child = |(manifest, platform): &(&Descriptor, Value)| {
                    let mut child = json!(manifest);
                    child["platform"] = platform.clone();
                    child
                };
                let children: Vec<Value> = manifests.iter().map(child).collect();
                let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
                self.0.blob(INDEX, index.to_string().as_bytes())
            }
        };
        let mut entry = json!(root);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/team/app:1"});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        fs::write(self.0.path().join("index.json"), index.to_string()).unwrap();
    }

    /// Exports it; what is on the medium, by platform, and what was said.
    #[track_caller]
    fn export(&self, platform: &str) -> (Vec<String>, String) {
        let medium = tempfile::tempdir().unwrap();
        let said = self.try_export(0, platform, &medium);
        let directory = medium.path().to_str().unwrap();
        run(0, ["verify", directory, "--deep"]);
        let listed = run(0, ["list", directory, "--json"]).json();
        let platforms = listed["images"][0]["platforms"].as_array().unwrap().iter();
        (platforms.map(|platform| platform.as_str().unwrap().to_owned()).collect(), said)
    }

    #[track_caller]
    fn try_export(&self, status: i32, platform: &str, medium: &TempDir) -> String {
        let (from, to) = (format!("oci:{}", self.0.path().display()), medium.path().to_str().unwrap());
        let arguments = ["export", "--from", &from, "--all", "--platform", platform, "--to", to];
        run(status, arguments).stderr()
    }
}

#[test]
fn a_config_that_names_no_platform_is_for_the_one_that_its_index_says_or_that_is_asked_for() {
    let missing = |config: &mut Value| {
        config.as_object_mut().unwrap().retain(|key, _| key != "os" && key != "architecture");
    };
    let empty = |config: &mut Value| {
        config["os"] = json!("");
        config["architecture"] = json!("");
    };
    for (name, change) in [("missing", &missing as &dyn Fn(&mut Value)), ("empty", &empty)] {
        let odd = Odd::new();
        let manifest = odd.manifest(change, |_| ());
        odd.list(&[(&manifest, json!({"os": "linux", "architecture": "arm64"}))]);
        let (platforms, said) = odd.export("linux/arm64");
        assert!(platforms == ["linux/arm64"] && !said.contains("warning"), "{name}: {said}");
        let said = odd.try_export(1, "linux/amd64", &tempfile::tempdir().unwrap());
        assert!(said.contains("it holds: linux/arm64"), "{name}: {said}");
        for nothing in [Value::Null, json!({}), json!({"os": "", "architecture": ""})] {
            odd.list(&[(&manifest, nothing)]);
            let (platforms, said) = odd.export("arm64");
            assert_eq!(platforms, ["linux/arm64"], "{name}");
            assert!(said.contains("it names no platform"), "{name}: {said}");
            assert_eq!(odd.export("all").0.len(), 1, "{name}");
        }
    }
}

#[test]
fn an_entry_without_an_operating_system_is_for_linux() {
    let odd = Odd::new();
    let manifest = odd.manifest(|_| (), |_| ());
    odd.list(&[(&manifest, json!({"architecture": "arm64"}))]);
    assert_eq!(odd.export("all").0, ["linux/arm64"]);
}

#[test]
fn every_release_of_windows_is_a_platform() {
    let odd = Odd::new();
    let linux = odd.manifest(|_| (), |_| ());
    let windows = |version: &str| {
        let version = version.to_owned();
        odd.manifest(
            move |config| {
                config["os"] = json!("windows");
                config["os.version"] = json!(version);
            },
            |_| (),
        )
    };
    let (old, new) = (windows("10.0.17763.1"), windows("10.0.20348.1"));
    let platform = |version: &str| json!({"os": "windows", "architecture": "amd64", "os.version": version});
    odd.list(&[
        (&linux, json!({"os": "linux", "architecture": "amd64"})),
        (&old, platform("10.0.17763.1")),
        (&new, platform("10.0.20348.1")),
    ]);
    let both = ["windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64"];
    assert_eq!(odd.export("all").0, ["linux/amd64", both[0], both[1]]);
    assert_eq!(odd.export("windows/amd64").0, both);
    assert_eq!(odd.export(both[1]).0, [both[1]]);
}

#[test]
fn a_platform_that_cannot_be_passed_on_does_not_cost_the_others() {
    let odd = Odd::new();
    let linux = odd.manifest(|_| (), |_| ());
    let windows = odd.manifest(
        |config| config["os"] = json!("windows"),
        |manifest| manifest["layers"][0]["mediaType"] = json!(FOREIGN),
    );
    let for_windows = json!({"os": "windows", "architecture": "amd64"});
    odd.list(&[(&linux, json!({"os": "linux", "architecture": "amd64"})), (&windows, for_windows.clone())]);
    let (platforms, said) = odd.export("all");
    assert_eq!(platforms, ["linux/amd64"]);
    assert!(said.contains("carried without windows/amd64") && said.contains("foreign layer"), "{said}");
    let medium = tempfile::tempdir().unwrap();
    assert!(odd.try_export(1, "windows/amd64", &medium).contains("foreign layer"));
    odd.list(&[(&windows, for_windows)]);
    assert!(odd.try_export(1, "all", &medium).contains("foreign layer"));
}

#[test]
fn an_image_for_recent_processors_alone_serves_whoever_asks_for_amd64() {
    let odd = Odd::new();
    let manifest = odd.manifest(|_| (), |_| ());
    let variant = |v: &str| json!({"os": "linux", "architecture": "amd64", "variant": v});
    let other = odd.manifest(|config| config["variant"] = json!("v3"), |_| ());
    odd.list(&[(&other, variant("v3")), (&manifest, variant("v2"))]);
    let (platforms, said) = odd.export("linux/amd64");
    assert_eq!(platforms, ["linux/amd64/v2"]);
    assert!(said.contains("linux/amd64/v2 is taken"), "{said}");
    odd.list(&[(&other, variant("v3")), (&manifest, json!({"os": "linux", "architecture": "amd64"}))]);
    let (platforms, said) = odd.export("linux/amd64");
    assert!(platforms == ["linux/amd64"] && !said.contains("is taken"), "{said}");
}

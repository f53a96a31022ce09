//! `pannier export` from registries that behave as real ones do, and not as the specification has it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{blobs, run};
use crate::support::pushed::{INDEX, Layout, MANIFEST, noise};
use crate::support::registry::{Asked, Authority, Faulty, Reply, Server, Setup, have, reply};
use pannier::image::{Descriptor, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a registry has: the blobs of a layout, and tags of one repository.
#[derive(Clone)]
struct Content {
    blobs: PathBuf,
    types: BTreeMap<String, String>,
    tags: BTreeMap<String, Descriptor>,
}

impl Content {
    fn of(layout: &Layout, tags: &[(&str, &Descriptor)]) -> Self {
        let tags = tags.iter().map(|(tag, document)| ((*tag).to_owned(), (*document).clone()));
        Self { blobs: layout.path().join("blobs/sha256"), types: BTreeMap::new(), tags: tags.collect() }
    }

    /// As the specification has it, without the referrers API.
    fn answer(&self, asked: &Asked) -> Reply {
        let last = asked.path.rsplit('/').next().unwrap();
        let digest = self.tags.get(last).map_or(last.to_owned(), |document| document.digest.to_string());
        let bytes = digest.strip_prefix("sha256:").and_then(|hex| fs::read(self.blobs.join(hex)).ok());
        match bytes {
            _ if asked.path == "/v2/" => reply(200, ""),
            Some(bytes) if asked.path.contains("/manifests/") => {
                let own: Value = serde_json::from_slice(&bytes).unwrap();
                let own = own["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
                let media_type = self.types.get(last).cloned().unwrap_or(own);
                reply(200, bytes).with("Content-Type", media_type).with("Docker-Content-Digest", digest)
            }
            Some(bytes) if asked.path.contains("/blobs/") => reply(200, bytes),
            _ => reply(404, ""),
        }
    }
}

fn small(text: &[u8]) -> Layout {
    Layout::new(&["linux/amd64", "linux/arm64"], &[("a", text.to_vec())])
}

/// Exports an image of `server`; what was said.
#[track_caller]
fn export(status: i32, server: &Faulty, image: &str, medium: &Path, more: &[&str]) -> String {
    let (name, to) = (server.name(), medium.to_str().unwrap());
    let image = format!("{name}/{image}");
    let arguments =
        ["export", &image, "--platform", "linux/amd64", "--insecure", &name, "--retries", "1", "--to", to];
    run(status, [&arguments[..], more].concat()).stderr()
}

fn listed(medium: &Path) -> Value {
    run(0, ["list", medium.to_str().unwrap(), "--json"]).json()
}

fn names(medium: &Path) -> Vec<String> {
    let listed = listed(medium);
    let images = listed["images"].as_array().unwrap().iter();
    let names = images.flat_map(|image| image["names"].as_array().unwrap());
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn referrers(medium: &Path) -> usize {
    listed(medium)["images"][0]["referrers"].as_array().unwrap().len()
}

fn room() -> (TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let medium = room.path().join("medium");
    (room, medium)
}

#[test]
fn of_a_tag_and_a_digest_the_digest_is_carried() {
    let (old, new) = (small(b"old"), small(b"new"));
    let digest = old.root.digest;
    for (file, bytes) in blobs(new.path()) {
        fs::write(old.path().join("blobs/sha256").join(file), bytes).unwrap();
    }
    for (tags, name, said) in [
        (&[("1", &old.root)][..], ":1".to_owned(), None),
        (&[("1", &new.root)], format!("@{digest}"), Some("names sha256:")),
        (&[("2", &new.root)], format!("@{digest}"), Some("not there any more")),
    ] {
        let content = Content::of(&old, tags);
        let server = Faulty::start(move |asked| content.answer(asked));
        let (_room, medium) = room();
        let warned = export(0, &server, &format!("app:1@{digest}"), &medium, &[]);
        assert_eq!(warned.contains("warning"), said.is_some(), "{warned}");
        assert!(warned.contains(said.unwrap_or_default()), "{warned}");
        assert_eq!(names(&medium), [format!("{}/app{name}", server.name())]);
        assert_eq!(listed(&medium)["images"][0]["original"], digest.to_string());
        run(0, ["verify", medium.to_str().unwrap(), "--deep"]);
    }
}

#[test]
fn a_pinned_image_and_its_tag_are_carried_once_or_as_two() {
    let (old, new) = (small(b"old"), small(b"new"));
    for (file, bytes) in blobs(new.path()) {
        fs::write(old.path().join("blobs/sha256").join(file), bytes).unwrap();
    }
    let content = Content::of(&old, &[("1", &new.root)]);
    let server = Faulty::start(move |asked| content.answer(asked));
    let (_room, medium) = room();
    let name = server.name();
    let same = format!("{name}/app:1@{}", new.root.digest);
    let other = format!("{name}/app:1@{}", old.root.digest);
    export(0, &server, "app:1", &medium, &[&same, &other]);
    let mut expected = [format!("{name}/app:1"), format!("{name}/app@{}", old.root.digest)];
    expected.sort();
    let mut names = names(&medium);
    names.sort();
    assert_eq!(names, expected);
}

/// A manifest that refers to `subject`, with one blob.
fn referrer(layout: &Layout, subject: &Descriptor, text: &[u8]) -> Descriptor {
    let (payload, empty) =
        (layout.blob("text/x", text), layout.blob("application/vnd.oci.empty.v1+json", b"{}"));
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "test/thing",
        "config": empty, "layers": [payload], "subject": subject});
    layout.blob(MANIFEST, &serde_json::to_vec(&manifest).unwrap())
}

fn index(layout: &Layout, entries: &[Value]) -> Descriptor {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    layout.blob(INDEX, &serde_json::to_vec(&index).unwrap())
}

fn value(descriptor: &Descriptor) -> Value {
    serde_json::to_value(descriptor).unwrap()
}

fn fallback(subject: &Descriptor) -> String {
    format!("sha256-{}", subject.digest.hex())
}

#[test]
fn an_image_under_its_own_fallback_tag_is_no_signature_of_itself() {
    let layout = small(b"a");
    let content = Content::of(&layout, &[("1", &layout.root)]);
    // As GitLab's registry has it: the tag stands for the digest.
    let server = Faulty::start(move |asked| {
        let path = asked.path.replace("/manifests/sha256-", "/manifests/sha256:");
        content.answer(&Asked { path, ..asked.clone() })
    });
    let (_room, medium) = room();
    let said = export(0, &server, "app:1", &medium, &[]);
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(referrers(&medium), 0);
    let there = blobs(&medium).len();
    let (_room, without) = room();
    export(0, &server, "app:1", &without, &["--no-referrers"]);
    assert_eq!(blobs(&without).len(), there);
}

#[test]
fn what_a_fallback_tag_lists_has_to_name_the_subject() {
    let layout = small(b"a");
    let good = referrer(&layout, &layout.root, b"good");
    let about_another = referrer(&layout, &layout.manifests[1], b"other");
    let no_subject = referrer(&layout, &Descriptor::of("text/x", b""), b"none");
    let list = index(&layout, &[value(&good), value(&about_another), value(&no_subject)]);
    let content = Content::of(&layout, &[("1", &layout.root), (&fallback(&layout.root), &list)]);
    let server = Faulty::start(move |asked| content.answer(asked));
    let (_room, medium) = room();
    export(0, &server, "app:1", &medium, &["--require-referrers"]);
    assert_eq!(referrers(&medium), 1);
    let there: Vec<Vec<u8>> = blobs(&medium).into_values().collect();
    assert!(there.contains(&b"good".to_vec()) && !there.contains(&b"other".to_vec()));
}

#[test]
fn a_referrer_that_cannot_be_had_does_not_cost_the_image() {
    let layout = small(b"a");
    let good = referrer(&layout, &layout.root, b"good");
    let mut wrong_size = value(&referrer(&layout, &layout.root, b"size"));
    wrong_size["size"] = json!(7);
    let mut gone = value(&good);
    gone["digest"] = json!(Digest::of(b"gone").to_string());
    let artifact = "application/vnd.oci.artifact.manifest.v1+json";
    let text = json!({"mediaType": artifact, "artifactType": "x", "blobs": [], "subject": layout.root});
    let old = value(&layout.blob(artifact, &serde_json::to_vec(&text).unwrap()));
    let without_payload = referrer(&layout, &layout.root, b"lost");
    fs::remove_file(layout.path().join("blobs/sha256").join(Digest::of(b"lost").hex())).unwrap();
    for (bad, said) in [
        (gone, "not found"),
        (wrong_size, "expected 7"),
        (old, "artifact.manifest"),
        (value(&without_payload), &*Digest::of(b"lost").to_string()),
    ] {
        let list = index(&layout, &[bad, value(&good)]);
        let content = Content::of(&layout, &[("1", &layout.root), (&fallback(&layout.root), &list)]);
        let server = Faulty::start(move |asked| content.answer(asked));
        let (_room, medium) = room();
        let warned = export(0, &server, "app:1", &medium, &[]);
        assert!(warned.contains("warning: ") && warned.contains(said), "{said}: {warned}");
        assert!(warned.contains("--require-referrers"), "{warned}");
        assert_eq!(referrers(&medium), 1, "{said}");
        run(0, ["verify", medium.to_str().unwrap(), "--deep"]);
        let (name, (_room, strict)) = (server.name(), room());
        let image = format!("{name}/app:1");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pannier"))
            .args(["export", &image, "--platform", "linux/amd64", "--insecure", &name, "--retries", "0"])
            .args(["--require-referrers", "--to", strict.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{said}");
    }
}

#[test]
fn a_referrers_path_that_fails_ends_neither_the_export_nor_the_search() {
    for status in [401, 403, 418, 429, 500, 502, 503] {
        let layout = small(b"a");
        let signature = referrer(&layout, &layout.root, b"signed");
        let sig = format!("{}.sig", fallback(&layout.root));
        let content = Content::of(&layout, &[("1", &layout.root), (&sig, &signature)]);
        let server = Faulty::start(move |asked| {
            if asked.path.contains("/referrers/") {
                return reply(status, "").with("Retry-After", 0);
            }
            // Google's registry refuses a tag that is not there to those who may not list tags.
            match content.answer(asked) {
                absent if absent.status == 404 => reply(403, ""),
                other => other,
            }
        });
        let (_room, medium) = room();
        let warned = export(0, &server, "app:1", &medium, &[]);
        assert!(warned.contains("warning: ") && warned.contains(&status.to_string()), "{status}: {warned}");
        assert_eq!(referrers(&medium), 1, "{status}");
        // Asked again once where that may help, and not at all for the other documents of the image.
        assert!(server.count("/referrers/") <= 3, "{status}: {}", server.count("/referrers/"));
        let (_room, strict) = room();
        let failed = if matches!(status, 401 | 403 | 418) { 1 } else { 6 };
        export(failed, &server, "app:1", &strict, &["--require-referrers"]);
    }
}

#[test]
fn everything_is_accepted_in_one_line() {
    let layout = small(b"a");
    let content = Content::of(&layout, &[("1", &layout.root)]);
    let server = Faulty::start(move |asked| content.answer(asked));
    let (_room, medium) = room();
    export(0, &server, "app:1", &medium, &[]);
    let asked = server.asked.lock().unwrap();
    let manifests = asked.iter().filter(|asked| asked.path.contains("/manifests/"));
    for asked in manifests {
        let accept = &asked.headers["accept"];
        assert!(accept.starts_with(INDEX) && accept.contains(MANIFEST) && accept.contains(", "), "{accept}");
    }
}

#[test]
fn a_store_that_knows_no_media_types_is_a_registry_too() {
    for media_type in ["binary/octet-stream", "application/x-octet-stream", "text/json", "TEXT/Plain", "x"] {
        let layout = small(b"a");
        let mut content = Content::of(&layout, &[("1", &layout.root)]);
        content.types.insert("1".into(), media_type.into());
        for document in &layout.manifests {
            content.types.insert(document.digest.to_string(), media_type.into());
        }
        let server = Faulty::start(move |asked| content.answer(asked));
        let (_room, medium) = room();
        export(0, &server, "app:1", &medium, &[]);
    }
}

/// A registry that gives a token to anybody, and takes nothing else.
fn with_anonymous_tokens(content: Content, port: std::sync::Arc<std::sync::Mutex<u16>>) -> Faulty {
    Faulty::start(move |asked| {
        if asked.path.starts_with("/token") {
            // As some write it: null, and a number as text.
            return reply(200, r#"{"token":null,"access_token":"for-anybody","expires_in":"300"}"#);
        }
        match asked.headers.get("authorization").map(String::as_str) {
            Some("Bearer for-anybody") => content.answer(asked),
            _ => {
                let port = port.lock().unwrap();
                let challenge = format!(
                    "Basic realm=\"a, b\", Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\""
                );
                reply(401, "").with("WWW-Authenticate", challenge)
            }
        }
    })
}

#[test]
fn a_registry_that_sends_on_to_another_is_followed_with_a_token_for_anybody() {
    let layout = small(b"a");
    let port = std::sync::Arc::default();
    let other =
        with_anonymous_tokens(Content::of(&layout, &[("1", &layout.root)]), std::sync::Arc::clone(&port));
    *port.lock().unwrap() = other.port;
    let to = other.name();
    let vanity = Faulty::start(move |asked| {
        if asked.path == "/v2/" {
            return reply(200, "");
        }
        reply(302, "").with("Location", format!("http://{to}{}", asked.path))
    });
    let (_room, medium) = room();
    export(0, &vanity, "app:1", &medium, &["--creds", "me:secretword"]);
    let asked = other.asked.lock().unwrap();
    // bWU6c2VjcmV0d29yZA== is me:secretword.
    for asked in asked.iter() {
        let header = asked.headers.get("authorization").cloned().unwrap_or_default();
        assert!(!header.contains("bWU6") && !asked.path.contains("me"), "{asked:?}");
    }
    assert!(asked.iter().filter(|asked| asked.path.starts_with("/token")).count() >= 1);
    assert_eq!(names(&medium), [format!("{}/app:1", vanity.name())]);
}

#[test]
fn ten_redirects_are_followed_and_no_circle() {
    let layout = small(b"a");
    let content = Content::of(&layout, &[("1", &layout.root)]);
    let server = Faulty::start(move |asked| match asked.path.split_once("?hop=") {
        _ if asked.path == "/v2/" => reply(200, ""),
        Some((path, "9")) => content.answer(&Asked { path: path.to_owned(), ..asked.clone() }),
        Some((path, hop)) => {
            reply(307, "").with("Location", format!("{path}?hop={}", hop.parse::<u32>().unwrap() + 1))
        }
        None => reply(307, "").with("Location", format!("{}?hop=0", asked.path)),
    });
    let (_room, medium) = room();
    export(0, &server, "app:1", &medium, &[]);
    let circle = Faulty::start(|asked| match asked.path.as_str() {
        "/v2/" => reply(200, ""),
        path => reply(307, "").with("Location", path),
    });
    let (_room, medium) = room();
    let said = export(1, &circle, "app:1", &medium, &[]);
    assert!(said.contains("redirects too often"), "{said}");
}

#[test]
fn layers_may_lie_at_a_store_without_tls() {
    if !have(&["docker-registry", "skopeo", "openssl"]) {
        return;
    }
    let authority = Authority::new();
    let directory: std::sync::Arc<std::sync::Mutex<PathBuf>> = std::sync::Arc::default();
    let storage = std::sync::Arc::clone(&directory);
    let store = Faulty::start(move |asked| {
        let path = asked.path.split('?').next().unwrap().trim_start_matches('/').to_owned();
        fs::read(storage.lock().unwrap().join(path))
            .map_or_else(|_| reply(404, ""), |bytes| reply(200, bytes))
    });
    let base = format!("http://{}", store.name());
    let server = Server::start(Setup { tls: Some(&authority), redirect: Some(&base), ..Setup::default() });
    *directory.lock().unwrap() = server.directory.path().join("storage");
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(1, 5000))]);
    let (name, ca) = (server.name(), authority.certificate());
    layout.push(&format!("{name}/app:1"), &["--dest-tls-verify=false"]);
    let (_room, medium) = room();
    let image = format!("{name}/app:1");
    let arguments = ["export", &image, "--platform", "linux/amd64", "--ca-file", ca.to_str().unwrap()];
    let said = run(0, [&arguments[..], &["--to", medium.to_str().unwrap()]].concat()).stderr();
    assert_eq!(said.matches("by plain HTTP").count(), 1, "{said}");
    assert!(store.count("docker/registry") > 0);
    assert!(store.asked.lock().unwrap().iter().all(|asked| !asked.headers.contains_key("authorization")));
    run(0, ["verify", medium.to_str().unwrap(), "--deep"]);

    // The same certificate, found where Docker and containerd have it.
    let folder = medium.parent().unwrap().join("certs.d").join(name.replace(':', "_") + "_");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&ca, folder.join("ca.crt")).unwrap();
    let (_room, again) = room();
    let hosts = folder.parent().unwrap().to_str().unwrap();
    let arguments = ["export", &image, "--platform", "linux/amd64", "--hosts-dir", hosts];
    run(0, [&arguments[..], &["--to", again.to_str().unwrap()]].concat());
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named() {
    let (_room, medium) = room();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(["export", "registry.test/app:1", "--retries", "0", "--to", medium.to_str().unwrap()])
        .env("HTTPS_PROXY", "http://me:secretword@127.0.0.1:9")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("proxy 127.0.0.1:9") && !said.contains("secretword"), "{said}");
}

#[test]
fn a_person_without_a_login_is_told_where_one_was_looked_for() {
    let server = Faulty::start(|_| reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let (room, medium) = room();
    fs::write(room.path().join("config.json"), "").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pannier"))
        .args(["export", &format!("{}/app:1", server.name()), "--insecure", &server.name()])
        .args(["--to", medium.to_str().unwrap()])
        .env("DOCKER_CONFIG", room.path())
        .env_remove("XDG_RUNTIME_DIR")
        .env_remove("REGISTRY_AUTH_FILE")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for file in [&*room.path().join("config.json").to_string_lossy(), "/run/containers/0/auth.json"] {
        assert!(said.contains(file), "no {file} in {said}");
    }
}

#[test]
fn tags_are_asked_for_by_pattern_and_by_version() {
    let layout = small(b"a");
    let tags = ["1.29.0", "1.29.1", "1.30.0", "1.31.0", "1.31.0-rc.1", "latest"];
    let named: Vec<(&str, &Descriptor)> = tags.iter().map(|tag| (*tag, &layout.root)).collect();
    let content = Content::of(&layout, &named);
    let server = Faulty::start(move |asked| match asked.path.split_once("tags/list?") {
        // Page by page, as large registries give them.
        Some((path, query)) => {
            let at = query.split_once("last=").map_or(0, |(_, last)| last.parse::<usize>().unwrap());
            let page =
                reply(200, json!({"name": "app", "tags": tags[at..(at + 2).min(tags.len())]}).to_string());
            match at + 2 < tags.len() {
                true => page.with("Link", format!("<{path}tags/list?n=2&last={}>; rel=\"next\"", at + 2)),
                false => page,
            }
        }
        None => content.answer(asked),
    });
    let name = server.name();
    let list = |more: &[&str]| {
        let arguments = ["export", "--list-only", "--insecure", &name];
        let output = run(0, [&arguments[..], more].concat());
        let prefix = format!("{name}/app:");
        output.stdout().lines().map(|line| line.strip_prefix(&prefix).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (repository, pattern) = (format!("{name}/app"), format!("{name}/app:1.29.*"));
    assert_eq!(list(&[&pattern]), ["1.29.0", "1.29.1"]);
    assert_eq!(list(&[&repository, "--tags", "semver >=1.29.1 <1.31"]), ["1.29.1", "1.30.0"]);
    assert_eq!(list(&[&pattern, "--exclude", "*:1.29.0"]), ["1.29.1"]);
    let (room, medium) = room();
    let file = room.path().join("images.txt");
    fs::write(&file, format!("{pattern}  # both\n{repository}:1.31.0\n")).unwrap();
    let to = medium.to_str().unwrap();
    let arguments =
        ["export", "--list", file.to_str().unwrap(), "--platform", "linux/amd64", "--insecure", &name];
    run(0, [&arguments[..], &["--to", to]].concat());
    assert_eq!(names(&medium).len(), 3);
    // A medium lists its tags as well.
    let second = room.path().join("second");
    let from = format!("medium:{to}");
    let arguments = ["export", "--from", &from, &pattern, "--platform", "linux/amd64"];
    run(0, [&arguments[..], &["--to", second.to_str().unwrap()]].concat());
    assert_eq!(names(&second).len(), 2);
    let said = export(1, &server, "app:9.*", &medium, &[]);
    assert!(said.contains("6 in all") && said.contains("latest"), "{said}");
}

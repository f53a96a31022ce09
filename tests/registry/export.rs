//! `pannier export` from registries, with the environment of a person: logins, proxies, mirrors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::Ordering;

use crate::support::carry::blobs;
use crate::support::layout::{files as tar, image, index, layout, noise as data, unnamed};
use crate::support::pushed::{Layout, noise};
use crate::support::registry::{Authority, Fate, Server, Setup, Squid, Wire, have};
use tempfile::TempDir;

const TOOLS: [&str; 4] = ["docker-registry", "skopeo", "openssl", "htpasswd"];

/// A person's machine: a home, a medium, and no settings but those given.
struct Person {
    home: TempDir,
    environment: Vec<(String, String)>,
}

impl Person {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.into(), value.to_string()));
        self
    }

    fn at(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Writes a file in the home.
    fn file(self, name: &str, content: &str) -> Self {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pannier"));
        let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn export(&self, image: &str, more: &[&str]) -> Output {
        let medium = self.at("medium");
        let arguments = ["export", image, "--platform", "linux/amd64", "--to", &medium, "--retries", "1"];
        self.command(&[&arguments[..], more].concat()).output().unwrap()
    }

    /// Exports, and compares what is on the medium with the image.
    #[track_caller]
    fn exports(&self, image: &str, layout: &Layout, more: &[&str]) {
        let output = self.export(image, more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let blobs = Path::new(&self.at("medium")).join("blobs/sha256");
        for manifest in &layout.manifests {
            assert_eq!(fs::read(blobs.join(manifest.digest.hex())).unwrap(), layout.read(manifest));
        }
        fs::remove_dir_all(self.at("medium")).unwrap();
    }
}

fn small_image() -> Layout {
    Layout::new(&["linux/amd64"], &[("a", noise(1, 50_000)), ("b", b"b".repeat(5000))])
}

#[test]
fn logins_are_found_where_docker_and_podman_keep_them() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup { login: Some(("me", "secretword")), ..Setup::default() });
    let (name, layout) = (server.name(), small_image());
    let reference = format!("{name}/team/app:1");
    layout.push(&reference, &["--dest-creds", "me:secretword"]);
    let insecure = ["--insecure", name.as_str()];

    let refused = Person::new().export(&reference, &insecure);
    assert_eq!(refused.status.code(), Some(1));

    // bWU6c2VjcmV0d29yZA== is me:secretword.
    let auths = format!(r#"{{"auths":{{"{name}":{{"auth":"bWU6c2VjcmV0d29yZA=="}}}}}}"#);
    let of_path = format!(r#"{{"auths":{{"{name}/team":{{"auth":"bWU6c2VjcmV0d29yZA=="}}}}}}"#);
    let docker = Person::new().file(".docker/config.json", &auths);
    docker.exports(&reference, &layout, &insecure);
    let other = Person::new().file("d/config.json", &auths);
    let elsewhere = other.at("d");
    other.with("DOCKER_CONFIG", elsewhere).exports(&reference, &layout, &insecure);
    let podman = Person::new().file("run/containers/auth.json", &of_path);
    let run = podman.at("run");
    podman.with("XDG_RUNTIME_DIR", run).exports(&reference, &layout, &insecure);
    Person::new().file(".config/containers/auth.json", &auths).exports(&reference, &layout, &insecure);
    let named = Person::new().file("auth.json", &auths);
    let file = named.at("auth.json");
    named.with("REGISTRY_AUTH_FILE", file).exports(&reference, &layout, &insecure);

    let helper = |answer: &str| {
        let person = Person::new()
            .file("bin/docker-credential-test", &format!("#!/bin/sh\ncat >\"$HOME/asked\"\n{answer}\n"));
        let program = person.at("bin/docker-credential-test");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        person
    };
    let answer = r#"echo '{"ServerURL":"x","Username":"me","Secret":"secretword"}'"#;
    for config in [format!(r#"{{"credHelpers":{{"{name}":"test"}}}}"#), r#"{"credsStore":"test"}"#.to_owned()]
    {
        let person = helper(answer).file(".docker/config.json", &config);
        person.exports(&reference, &layout, &insecure);
        assert_eq!(fs::read_to_string(person.at("asked")).unwrap(), name);
    }
    let broken = helper("exit 1").file(".docker/config.json", r#"{"credsStore":"test"}"#);
    let said = String::from_utf8(broken.export(&reference, &insecure).stderr).unwrap();
    assert!(said.contains("docker-credential-test failed") && said.contains("401"), "{said}");
}

#[test]
fn a_login_never_shows_up_in_what_is_printed_or_written() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup { login: Some(("me", "secretword")), ..Setup::default() });
    let (name, layout) = (server.name(), small_image());
    let reference = format!("{name}/app:1");
    layout.push(&reference, &["--dest-creds", "me:secretword"]);
    let person = Person::new();
    for more in [&["-v"][..], &["--json"]] {
        let arguments = ["--insecure", &name, "--creds", "me:secretword"];
        let output = person.export(&reference, &[&arguments[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut texts = vec![output.stdout, output.stderr];
        let mut folders = vec![person.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() { folders.push(entry) } else { texts.push(fs::read(entry).unwrap()) }
            }
        }
        assert!(texts.len() > 5);
        for text in texts {
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains("secretword") && !text.contains("bWU6c2VjcmV0d29yZA"), "{text}");
        }
    }
}

#[test]
fn a_registry_that_only_the_proxy_knows_is_reached_through_it() {
    if !have(&["squid"]) || !have(&TOOLS) {
        return;
    }
    let authority = Authority::new();
    let tls = Server::start(Setup { tls: Some(&authority), ..Setup::default() });
    let plain = Server::start(Setup::default());
    let layout = small_image();
    layout.push(&format!("localhost:{}/app:1", tls.port), &[]);
    layout.push(&format!("localhost:{}/app:1", plain.port), &[]);
    let squid = Squid::start(None);
    let proxy = format!("http://127.0.0.1:{}", squid.port);
    let secure = format!("registry.test:{}/app:1", tls.port);
    let insecure = format!("registry.test:{}/app:1", plain.port);
    let ca = authority.certificate().display().to_string();
    let trust = ["--ca-file", ca.as_str()];

    // The direct way is blocked: nobody but the proxy can resolve the name.
    let blocked = Person::new().export(&secure, &trust);
    assert_eq!(blocked.status.code(), Some(6), "{}", String::from_utf8_lossy(&blocked.stderr));
    let excluded = Person::new().with("HTTPS_PROXY", &proxy).with("NO_PROXY", "registry.test");
    assert_eq!(excluded.export(&secure, &trust).status.code(), Some(6));
    assert_eq!(squid.log(), "");

    for variable in ["HTTPS_PROXY", "https_proxy"] {
        Person::new().with(variable, &proxy).exports(&secure, &layout, &trust);
    }
    assert!(squid.log().contains(&format!("CONNECT registry.test:{}", tls.port)), "{}", squid.log());
    let named = format!("registry.test:{}", plain.port);
    for variable in ["HTTP_PROXY", "http_proxy"] {
        Person::new().with(variable, &proxy).exports(&insecure, &layout, &["--insecure", &named]);
    }
    // What is on this machine is not asked for through a proxy.
    let lines = squid.log().lines().count();
    let local = format!("localhost:{}/app:1", tls.port);
    Person::new().with("HTTPS_PROXY", &proxy).exports(&local, &layout, &trust);
    assert_eq!(squid.log().lines().count(), lines);
}

#[test]
fn a_proxy_that_wants_a_login_gets_it_or_says_so() {
    if !have(&["squid"]) || !have(&TOOLS) || !Path::new("/usr/lib/squid/basic_ncsa_auth").exists() {
        return;
    }
    let authority = Authority::new();
    let server = Server::start(Setup { tls: Some(&authority), ..Setup::default() });
    let layout = small_image();
    layout.push(&format!("localhost:{}/app:1", server.port), &[]);
    let squid = Squid::start(Some(("carrier", "proxyword")));
    let reference = format!("registry.test:{}/app:1", server.port);
    let ca = authority.certificate().display().to_string();
    let trust = ["--ca-file", ca.as_str()];
    let proxy = format!("http://carrier:proxyword@127.0.0.1:{}", squid.port);
    Person::new().with("HTTPS_PROXY", proxy).exports(&reference, &layout, &trust);

    let wrong =
        Person::new().with("HTTPS_PROXY", format!("http://carrier:wrongword@127.0.0.1:{}", squid.port));
    let output = wrong.export(&reference, &trust);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("proxy") && !said.contains("wrongword"), "{said}");
}

#[test]
fn mirrors_are_asked_in_the_order_of_hosts_toml_and_the_registry_last() {
    if !have(&TOOLS) {
        return;
    }
    let authority = Authority::new();
    let mirror = Server::start(Setup { tls: Some(&authority), ..Setup::default() });
    let layout = small_image();
    // The mirror has Docker Hub's images below a path of its own.
    layout.push(&format!("localhost:{}/hub/library/app:1", mirror.port), &[]);
    let person = Person::new();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml = format!(
        "server = \"https://127.0.0.1:{nobody}\"\n[host.\"http://127.0.0.1:{nobody}\"]\n\
         [host.\"https://localhost:{}/v2/hub\"]\noverride_path = true\nca = \"{}\"\ncapabilities = [\"pull\", \"resolve\"]\n",
        mirror.port,
        authority.certificate().display()
    );
    let person = person.file("certs.d/docker.io/hosts.toml", &toml);
    let hosts = person.at("certs.d");
    person.exports("app:1", &layout, &["--hosts-dir", &hosts]);

    let output = person.export("absent:1", &["--hosts-dir", &hosts]);
    let said = String::from_utf8(output.stderr).unwrap();
    // What the mirror said, and not that the registry itself is out of reach.
    assert!(said.contains("not found") && said.contains(&format!("localhost:{}", mirror.port)), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_registry_gives_the_same_blobs_as_the_layout_that_was_pushed() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let base = data("data", 1, 300_000);
    let set = layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(tar([("etc/app", "1")])))
        .with(
            image("registry.local/team/other:2")
                .layer(base.clone())
                .gzip_level(1)
                .layer(tar([("etc/o", "2")])),
        )
        .with(image("registry.local/zstd:1").layer(base.clone()).zstd().layer(tar([("etc/z", "3")])))
        .with(
            index("docker.io/library/both:1")
                .with(unnamed().layer(base.clone()))
                .with(unnamed().platform("linux/arm64").layer(tar([("arm", "64")])))
                .attested(),
        );
    let room = tempfile::tempdir().unwrap();
    let at = |name: &str| room.path().join(name);
    set.write_dir(&at("layout"));
    let name = server.name();
    let mut images = Vec::new();
    for image in [
        "docker.io/library/app:1",
        "registry.local/team/other:2",
        "registry.local/zstd:1",
        "docker.io/library/both:1",
    ] {
        let (_, path) = image.split_once('/').unwrap();
        images.push(format!("{name}/{path}"));
        // skopeo finds it by what the layout's index.json says, its tag alone.
        let single = at(&path.replace(['/', ':'], "-"));
        let entry = set.find(image);
        copy_with_only(&at("layout"), &single, &serde_json::to_value(&entry.descriptor).unwrap());
        let (from, to) = (format!("oci:{}:x", single.display()), format!("docker://{name}/{path}"));
        let policy = [
            "--insecure-policy",
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            "--quiet",
        ];
        crate::support::registry::run("skopeo", &[&policy[..], &[&from, &to]].concat());
    }
    for platform in ["linux/amd64", "all"] {
        let (from_layout, from_registry) =
            (at(&format!("l-{}", platform.len())), at(&format!("r-{}", platform.len())));
        let source = format!("oci:{}", at("layout").display());
        let renames = [format!("docker.io={name}"), format!("registry.local={name}")];
        let to = |path: &Path| path.display().to_string();
        let person = Person::new();
        let whole = ["export", "--from", &source, "--all", "--platform", platform];
        let renamed = ["--rename", &renames[0], "--rename", &renames[1], "--to", &to(&from_layout)];
        let output = person.command(&[&whole[..], &renamed].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        let target = to(&from_registry);
        let options = ["--platform", platform, "--insecure", &name, "--to", &target];
        let output = person.command(&[&["export"], &images[..], &options].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(blobs(&from_layout) == blobs(&from_registry), "{platform}");
        let index = |medium: &Path| fs::read_to_string(medium.join("index.json")).unwrap();
        assert_eq!(index(&from_layout), index(&from_registry));
    }
}

/// A layout with the blobs of another and one entry, tagged `x`.
fn copy_with_only(from: &Path, to: &Path, entry: &serde_json::Value) {
    fs::create_dir_all(to).unwrap();
    std::os::unix::fs::symlink(from.join("blobs"), to.join("blobs")).unwrap();
    fs::copy(from.join("oci-layout"), to.join("oci-layout")).unwrap();
    let mut entry = entry.clone();
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "x"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(to.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn a_run_that_was_cut_off_is_gone_on_with_by_range() {
    // As the registry has it, and recompressed on the way.
    for compression in ["none", "zstd:1"] {
        cut_off_at_nine_tenths(compression);
    }
}

fn cut_off_at_nine_tenths(compression: &str) {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("big", noise(7, 40 << 20))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    let size = layout.layers[0].size;
    let cut = size / 10 * 9;
    // The first connection learns that there is no TLS, the second is cut at 90 %, the third is refused.
    let wire = Wire::to(server.port, move |number| match number {
        0 | 4.. => Fate::Whole,
        1 => Fate::CutAfter(cut),
        _ => Fate::CutAfter(1),
    });
    let person = Person::new();
    let reference = format!("{}/app:1", wire.name());
    let name = wire.name();
    let more = ["--insecure", name.as_str(), "--compression", compression];
    let first = person.export(&reference, &more);
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert_eq!(first.status.code(), Some(6), "{said}");
    let before = wire.passed.load(Ordering::SeqCst);
    assert!(before >= cut && before < cut + 10_000, "{before}");
    assert!(wire.broken.load(Ordering::SeqCst) >= 2, "{said}");
    let parts = Path::new(&person.at("medium")).join(".pannier/ingest");
    assert!(fs::read_dir(&parts).unwrap().count() > 0);
    assert!(person.export(&reference, &more).status.success());
    assert_eq!(fs::read_dir(parts).unwrap().count(), 0);
    let verified = person.command(&["verify", "--deep", &person.at("medium")]).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let passed = wire.passed.load(Ordering::SeqCst);
    eprintln!("{passed} bytes in two runs for a layer of {size}");
    assert!(passed * 100 <= size * 105, "{passed} bytes for a layer of {size}");
}

#[test]
fn a_dry_run_asks_for_manifests_only() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("big", noise(8, 4 << 20))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    let wire = Wire::to(server.port, |_| Fate::Whole);
    let (person, name) = (Person::new(), wire.name());
    let output = person.export(&format!("{name}/app:1"), &["--insecure", &name, "--dry-run"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(wire.passed.load(Ordering::SeqCst) < 20_000);
    assert!(!Path::new(&person.at("medium")).exists());
}

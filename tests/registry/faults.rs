//! What goes wrong with a registry: each failure has an exit status and words to act on.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::registry::{Authority, Faulty, Server, Setup, have, reply};
use pannier::image::Digest;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// Runs an export of `image` and expects it to fail; gives the exit status and what was said.
fn export(image: &str, more: &[&str]) -> (i32, String) {
    let medium = tempfile::tempdir().unwrap();
    let output = command(image, medium.path().to_str().unwrap(), more).output().unwrap();
    failed(&output)
}

fn command(image: &str, medium: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pannier"));
    command.args(["export", image, "--platform", "linux/amd64", "--to", medium]).args(more);
    if !more.contains(&"--retries") {
        command.args(["--retries", "0"]);
    }
    for variable in
        ["HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY"]
    {
        command.env_remove(variable);
    }
    command.env("HOME", medium).env_remove("DOCKER_CONFIG").env_remove("REGISTRY_AUTH_FILE");
    command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME");
    command
}

fn failed(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    (output.status.code().unwrap(), text)
}

#[track_caller]
fn assert_says(told: (i32, String), status: i32, words: &[&str]) {
    assert_eq!(told.0, status, "{}", told.1);
    for word in words {
        assert!(told.1.contains(word), "no {word:?} in: {}", told.1);
    }
}

#[test]
fn an_unknown_host() {
    let told = export("no-such-registry.invalid/app:1", &[]);
    assert_says(told, 6, &["no-such-registry.invalid", "cannot be reached", "check the name"]);
}

#[test]
fn a_refused_connection() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let told = export(&format!("127.0.0.1:{port}/app:1"), &[]);
    assert_says(told, 6, &["127.0.0.1", "refused", "check the name"]);
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    if !have(&["docker-registry", "openssl", "htpasswd"]) {
        return;
    }
    let server = Server::start(Setup { tls: Some(&Authority::new()), ..Setup::default() });
    let told = export(&format!("localhost:{}/app:1", server.port), &[]);
    assert_says(told, 6, &["certificate", "--ca-file", "--insecure"]);
}

#[test]
fn a_registry_without_tls() {
    let server = Faulty::start(|_| reply(200, ""));
    let told = export(&format!("{}/app:1", server.name()), &[]);
    assert_says(told, 6, &["does not speak TLS", "--insecure"]);
}

#[test]
fn a_login_that_is_missing_and_one_that_is_wrong() {
    let server = Faulty::start(|_| reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let name = server.name();
    let image = format!("{name}/app:1");
    let told = export(&image, &["--insecure", &name]);
    assert_says(told, 1, &["401", "docker login", "--creds"]);
    let told = export(&image, &["--insecure", &name, "--creds", "me:topsecret"]);
    assert!(!told.1.contains("topsecret") && !told.1.contains("bWU6dG9wc2VjcmV0"), "{}", told.1);
    assert_says(told, 1, &["401", "not accepted"]);
}

#[test]
fn a_login_that_may_not_pull() {
    let server = Faulty::start(|_| {
        reply(403, r#"{"errors":[{"code":"DENIED","message":"requires\u001b[2J scope"}]}"#)
    });
    let name = server.name();
    let told = export(&format!("{name}/app:1"), &["--insecure", &name]);
    assert!(!told.1.contains('\u{1b}'), "{}", told.1);
    assert_says(told, 1, &["403", "DENIED", "may not pull"]);
}

#[test]
fn an_image_that_is_not_there() {
    if !have(&["docker-registry", "htpasswd"]) {
        return;
    }
    let server = Server::start(Setup::default());
    let name = server.name();
    let told = export(&format!("{name}/nothing/here:1"), &["--insecure", &name]);
    assert_says(told, 1, &["nothing/here", "not found"]);
}

#[test]
fn a_rate_limit_is_waited_out_or_said() {
    let asked = AtomicUsize::new(0);
    let server = Faulty::start(move |request| {
        if request.path.contains("/manifests/") && asked.fetch_add(1, Ordering::SeqCst) < 2 {
            return reply(429, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#).with("Retry-After", 2);
        }
        reply(404, "")
    });
    let name = server.name();
    let image = format!("{name}/app:1");
    // Twice turned away, the third answer counts; and the person knows what is waited for.
    let told = export(&image, &["--insecure", &name, "--retries", "2"]);
    assert_says(told, 1, &["not found", "429", "asking again in 2 s"]);
    assert_eq!(server.count("/manifests/"), 3);

    let server = Faulty::start(|_| reply(429, "").with("Retry-After", 86400));
    let name = server.name();
    let told = export(&format!("{name}/app:1"), &["--insecure", &name, "--retries", "2"]);
    assert_says(told, 6, &["429", "rate limit", "86400 s"]);
    assert_eq!(server.count("/manifests/"), 1);
}

#[test]
fn trouble_in_the_registry_is_asked_again() {
    let server = Faulty::start(|request| reply(if request.path == "/v2/" { 200 } else { 503 }, ""));
    let name = server.name();
    let told = export(&format!("{name}/app:1"), &["--insecure", &name, "--retries", "1"]);
    assert_says(told, 6, &["503", "trouble"]);
    assert_eq!(server.count("/manifests/"), 2);
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says() {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"x","digest":"{}","size":1}},"layers":[]}}"#,
        Digest::of(b"x")
    );
    let lie = Digest::of(b"another");
    let server = Faulty::start(move |_| {
        reply(200, manifest.clone()).with("Content-Type", OCI).with("Docker-Content-Digest", lie)
    });
    let name = server.name();
    // A registry that contradicts itself, and one that contradicts what was asked for.
    assert_says(export(&format!("{name}/app:1"), &["--insecure", &name]), 4, &["damaged", &lie.to_string()]);
    let asked = Digest::of(b"third");
    let told = export(&format!("{name}/app@{asked}"), &["--insecure", &name]);
    assert_says(told, 4, &["damaged", &asked.to_string()]);
}

#[test]
fn a_media_type_that_is_no_image() {
    let server = Faulty::start(|request| match request.path.as_str() {
        path if path.ends_with("/page") => reply(200, "<html>login</html>").with("Content-Type", "text/html"),
        path if path.ends_with("/old") => reply(200, r#"{"schemaVersion":1,"fsLayers":[]}"#)
            .with("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        _ => reply(200, "{}").with("Content-Type", "application/vnd.example.thing+json"),
    });
    let name = server.name();
    let get = |tag: &str| export(&format!("{name}/app:{tag}"), &["--insecure", &name]);
    assert_says(get("page"), 1, &["web page", "proxy"]);
    assert_says(get("old"), 1, &["schema 1"]);
    assert_says(get("thing"), 1, &["application/vnd.example.thing+json", "neither a manifest nor an index"]);
}

#[test]
fn a_manifest_larger_than_any() {
    let server = Faulty::start(|_| reply(200, vec![b' '; (4 << 20) + 1]).with("Content-Type", OCI));
    let name = server.name();
    assert_says(
        export(&format!("{name}/app:1"), &["--insecure", &name]),
        1,
        &["larger than the 4194304 bytes"],
    );
}

#[test]
fn a_login_is_never_sent_on_to_another_host() {
    let storage = Faulty::start(|_| reply(404, ""));
    let port = storage.port;
    let server = Faulty::start(move |asked| {
        if !asked.headers.contains_key("authorization") {
            return reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let target = format!("http://127.0.0.1:{port}/signed?secret=1");
        reply(307, "").with("Location", target)
    });
    let name = server.name();
    let told = export(&format!("{name}/app:1"), &["--insecure", &name, "--creds", "me:word"]);
    assert_says(told, 1, &["not found"]);
    let asked = storage.asked.lock().unwrap();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|asked| !asked.headers.contains_key("authorization")), "{asked:?}");
    assert!(server.asked.lock().unwrap().iter().any(|asked| asked.headers.contains_key("authorization")));
}

#[test]
fn tokens_are_fetched_with_what_was_given_and_asked_for_once() {
    let tokens = Faulty::start(|asked| match asked.method.as_str() {
        // An identity token is exchanged by POST, a password shown by GET.
        "POST" if asked.body.contains("refresh_token=identity") => reply(200, r#"{"access_token":"t1"}"#),
        "GET" if asked.headers.get("authorization").map(String::as_str) == Some("Basic bWU6d29yZA==") => {
            reply(200, r#"{"token":"t1","expires_in":300}"#)
        }
        _ => reply(401, ""),
    });
    let realm = format!("http://127.0.0.1:{}/token", tokens.port);
    let challenge = format!("Bearer realm=\"{realm}\",service=\"test\",scope=\"repository:team/app:pull\"");
    let server = Faulty::start(move |asked| match asked.headers.get("authorization").map(String::as_str) {
        Some("Bearer t1") => reply(404, ""),
        _ => reply(401, "").with("WWW-Authenticate", &challenge),
    });
    let name = server.name();
    let image = format!("{name}/team/app:1");
    let insecure = ["--insecure", name.as_str()];

    assert_says(export(&image, &insecure), 1, &["401", "127.0.0.1"]);
    let told = export(&image, &[&insecure[..], &["--creds", "me:word"]].concat());
    assert_says(told, 1, &["not found"]);
    let query = tokens.asked.lock().unwrap().last().unwrap().path.clone();
    assert!(
        query.contains("service=test") && query.contains("scope=repository%3Ateam%2Fapp%3Apull"),
        "{query}"
    );

    let home = tempfile::tempdir().unwrap();
    let auths = format!(r#"{{"auths":{{"{name}":{{"auth":"bWU6","identitytoken":"identity"}}}}}}"#);
    std::fs::write(home.path().join("config.json"), auths).unwrap();
    let before = tokens.count("token");
    let output = command(&image, home.path().join("medium").to_str().unwrap(), &insecure)
        .env("DOCKER_CONFIG", home.path())
        .output()
        .unwrap();
    assert_says(failed(&output), 1, &["not found"]);
    assert_eq!(tokens.count("token"), before + 1);
}

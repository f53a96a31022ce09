//! `pannier push`: a medium into registries, real ones and one that keeps what it got when it is cut.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pannier::image::Digest;
use serde_json::Value;

use crate::mirror::{APP, BOTH, KEPT, Room};
use crate::support::carry::{expect, oci, pannier, run, text};
use crate::support::layout::{files, image, layout, noise};
use crate::support::registry::{Authority, Server, Setup, have, run as tool};

/// Runs a push with a state directory of its own; its lines.
fn push(status: i32, room: &Path, medium: &Path, target: &str, more: &[&str]) -> Vec<Value> {
    let config = room.join("config.toml");
    fs::write(&config, format!("state-directory = \"{}\"\n", room.join("state").display())).unwrap();
    let registry = target.split('/').next().unwrap();
    let mut arguments =
        vec!["push", "--json", text(medium), target, "--insecure", registry, "--config", text(&config)];
    arguments.extend(more);
    let mut command = pannier(arguments);
    command.env("HOME", room);
    let ran = expect(status, &mut command);
    ran.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(lines: &[Value]) -> &Value {
    lines.iter().find(|line| line["event"] == "summary").unwrap()
}

fn digest_of(reference: &str) -> String {
    tool("crane", &["digest", "--insecure", reference]).trim().to_owned()
}

#[test]
fn a_medium_goes_into_a_registry_and_the_second_time_nothing_is_sent() {
    if !have(&["docker-registry", "crane", "skopeo"]) {
        return;
    }
    let room = Room::new();
    let server = Server::start(Setup::default());
    let at = room.directory.path();
    let planned = push(0, at, &room.medium(), &server.name(), &["--dry-run"]);
    assert!(planned.iter().all(|line| line["event"] == "name" && line["fate"] == "new"), "{planned:?}");
    let lines = push(0, at, &room.medium(), &server.name(), &[]);
    assert_eq!(summary(&lines)["namesWritten"], 3);
    for (name, place) in [(APP, "library/app:1"), (BOTH, "team/both:2"), (KEPT, "team/kept:3")] {
        let image = room.image(name);
        let upstream = name == KEPT;
        let expected = if upstream { image.original.digest } else { image.carried.digest };
        let there = format!("{}/{place}", server.name());
        assert_eq!(digest_of(&there), expected.to_string());
        let line = lines.iter().find(|line| line["name"] == name).unwrap();
        assert_eq!(
            (line["upstream"].as_bool(), line["digest"].as_str().unwrap()),
            (Some(upstream), expected.to_string().as_str())
        );
        let from = format!("docker://{there}");
        let to = format!("oci:{}:x", room.path(&format!("back{upstream}{}", name.len())).display());
        tool("skopeo", &["copy", "--all", "--quiet", "--src-tls-verify=false", &from, &to]);
    }
    // The layer that two images share went once, and was mounted for the other.
    assert_eq!(summary(&lines)["blobsMounted"], 1);
    let again = push(0, at, &room.medium(), &server.name(), &[]);
    let again = summary(&again);
    assert_eq!(
        (&again["bytesSent"], &again["namesWritten"], &again["namesThere"]),
        (&0.into(), &0.into(), &3.into())
    );
    // Below a prefix, with the registries: only what is missing there is sent, and that is mounted.
    let below = format!("{}/mirror", server.name());
    let lines = push(0, at, &room.medium(), &below, &["--with-registry", APP]);
    assert_eq!(summary(&lines)["namesWritten"], 1);
    assert_eq!(
        digest_of(&format!("{below}/docker.io/library/app:1")),
        room.image(APP).carried.digest.to_string()
    );
}

#[test]
fn a_tag_that_points_elsewhere_is_an_error_or_what_was_asked_for() {
    if !have(&["docker-registry", "crane"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for (name, content) in [("one", "1"), ("two", "2")] {
        layout().with(image(APP).layer(files([("version", content)]))).write_dir(&at.join(name));
        let (from, to) = (oci(&at.join(name)), at.join(format!("m-{name}")));
        run(0, ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)]);
    }
    let server = Server::start(Setup::default());
    let there = format!("{}/library/app:1", server.name());
    push(0, at, &at.join("m-one"), &server.name(), &[]);
    let first = digest_of(&there);
    push(1, at, &at.join("m-two"), &server.name(), &[]);
    assert_eq!(digest_of(&there), first);
    let kept = push(0, at, &at.join("m-two"), &server.name(), &["--existing", "keep"]);
    assert_eq!((&summary(&kept)["namesKept"], &summary(&kept)["bytesSent"]), (&1.into(), &0.into()));
    assert_eq!(digest_of(&there), first);
    push(0, at, &at.join("m-two"), &server.name(), &["--existing", "overwrite"]);
    assert_ne!(digest_of(&there), first);
    // What cannot arrive as upstream has it fails where that is wanted.
    let other = format!("{}/other", server.name());
    let refused = push(1, at, &at.join("m-one"), &other, &["--require-original", "docker.io/library/none:1"]);
    assert!(refused.iter().all(|line| line["event"] != "summary"));
    let big = layout().with(image(APP).layer(noise("data", 1, 300_000)));
    big.write_dir(&at.join("big"));
    let from = oci(&at.join("big"));
    run(
        0,
        ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at.join("m-big"))],
    );
    push(1, at, &at.join("m-big"), &other, &["--require-original"]);
    push(0, at, &at.join("m-big"), &other, &[]);
    // Two images that would have one name are told before anything is sent.
    let same = layout()
        .with(image("a.io/x:1").layer(files([("a", "1")])))
        .with(image("b.io/x:1").layer(files([("a", "2")])));
    same.write_dir(&at.join("same"));
    let from = oci(&at.join("same"));
    run(
        0,
        ["export", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&at.join("m-same"))],
    );
    push(2, at, &at.join("m-same"), &other, &[]);
    push(0, at, &at.join("m-same"), &other, &["--with-registry"]);
}

#[test]
fn logins_and_a_private_authority_are_taken_as_an_export_takes_them() {
    if !have(&["docker-registry", "htpasswd", "openssl"]) {
        return;
    }
    let room = Room::new();
    let authority = Authority::new();
    let server =
        Server::start(Setup { login: Some(("me", "secretword")), tls: Some(&authority), ..Setup::default() });
    let target = format!("localhost:{}", server.port);
    let certificate = authority.certificate();
    let config = room.path("none.toml");
    fs::write(&config, "").unwrap();
    let medium = room.medium();
    let with = |status, more: &[&str]| {
        let arguments =
            ["push", text(&medium), &target, "--ca-file", text(&certificate), "--config", text(&config)];
        let mut command = pannier(arguments.into_iter().chain(more.iter().copied()));
        expect(status, command.env("HOME", room.directory.path())).stderr()
    };
    let refused = with(1, &[KEPT]);
    assert!(refused.contains("registry:") && refused.contains("401"), "{refused}");
    let wrong = with(1, &[KEPT, "--creds", "me:wrong"]);
    assert!(wrong.contains("401") && !wrong.contains("wrong"), "{wrong}");
    with(0, &["--creds", "me:secretword"]);
}

#[test]
fn referrers_follow_their_subject_also_where_the_registry_cannot_list_them() {
    if !have(&["oras", "docker-registry", "skopeo"]) {
        return;
    }
    use crate::support::pushed::{Layout, noise};
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(1, 50_000))]);
    let reference = format!("{}/team/app:1", server.name());
    layout.push(&reference, &[]);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("sbom"), "{}").unwrap();
    for kind in ["application/spdx+json", "application/x-signature"] {
        let sbom = format!("{}:application/json", at("sbom").display());
        tool(
            "oras",
            &[
                "attach",
                "--plain-http",
                "--artifact-type",
                kind,
                "--disable-path-validation",
                &reference,
                &sbom,
            ],
        );
    }
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
    let other = Server::start(Setup::default());
    let lines = push(0, directory.path(), &at("m"), &other.name(), &[]);
    assert_eq!(summary(&lines)["referrersSent"], 2);
    let served = format!("{}/team/app:1", other.name());
    let found = tool("oras", &["discover", "--plain-http", "--format", "json", &served]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let entries = found["referrers"].as_array().or(found["manifests"].as_array()).unwrap();
    let mut kinds: Vec<&str> = entries.iter().map(|entry| entry["artifactType"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["application/spdx+json", "application/x-signature"]);
    let again = push(0, directory.path(), &at("m"), &other.name(), &[]);
    assert_eq!((&summary(&again)["referrersSent"], &summary(&again)["bytesSent"]), (&0.into(), &0.into()));
}

/// A registry for uploads that keeps what it got of a chunk when the connection is cut, as the specification
/// has it. docker-registry 2.8 does not: it gives such an upload up.
struct Keeping {
    port: u16,
    /// Bytes of bodies that it was sent.
    got: Arc<AtomicU64>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    uploads: Vec<Vec<u8>>,
    blobs: BTreeMap<String, usize>,
    manifests: BTreeMap<String, String>,
    /// Where the next chunks are cut, in bytes from their start.
    cuts: Vec<usize>,
}

impl Keeping {
    fn start(cuts: Vec<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let held = Arc::new(Mutex::new(Held { cuts, ..Held::default() }));
        let got = Arc::new(AtomicU64::new(0));
        let (shared, counted) = (held.clone(), got.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, counted) = (shared.clone(), counted.clone());
                std::thread::spawn(move || while talk(&stream, &shared, &counted).is_some() {});
            }
        });
        Self { port, got, held }
    }
}

/// One request; `None` when the connection is over.
fn talk(stream: &TcpStream, held: &Mutex<Held>, got: &AtomicU64) -> Option<()> {
    // One byte at a time, so that nothing of the next request is read.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let (method, target) = line.trim().split_once(' ')?;
    let target = target.split(' ').next()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let path = target.split('?').next()?;
    let upload = || path.rsplit('/').next().and_then(|id| id.parse::<usize>().ok());
    // The config is small, and goes whole.
    let cut = if method == "PATCH" && length > 1000 { held.lock().unwrap().cuts.pop() } else { None };
    let mut body = vec![0; cut.unwrap_or(length).min(length)];
    reader.read_exact(&mut body).ok()?;
    let mut held = held.lock().unwrap();
    let mut more = String::new();
    let status = match method {
        "PATCH" => {
            got.fetch_add(body.len() as u64, Ordering::SeqCst);
            let id = upload()?;
            let start: usize = headers.get("content-range")?.split('-').next()?.parse().ok()?;
            if start != held.uploads[id].len() {
                416
            } else {
                held.uploads[id].extend(&body);
                if cut.is_some() {
                    let _ = stream.shutdown(Shutdown::Both);
                    return None;
                }
                more = format!("Location: {path}\r\nRange: 0-{}\r\n", held.uploads[id].len() - 1);
                202
            }
        }
        "POST" => {
            held.uploads.push(Vec::new());
            more = format!("Location: {path}{}\r\n", held.uploads.len() - 1);
            202
        }
        "GET" if path.contains("/uploads/") => {
            more = format!(
                "Location: {path}\r\nRange: 0-{}\r\n",
                held.uploads[upload()?].len().saturating_sub(1)
            );
            204
        }
        "PUT" if path.contains("/uploads/") => {
            let bytes = std::mem::take(&mut held.uploads[upload()?]);
            let digest = Digest::of(&bytes).to_string();
            let said = target.split("digest=").nth(1)?.replace("%3A", ":");
            assert_eq!(digest, said);
            held.blobs.insert(digest, bytes.len());
            201
        }
        "PUT" => {
            held.manifests.insert(path.to_owned(), Digest::of(&body).to_string());
            201
        }
        _ if path.contains("/blobs/") && held.blobs.contains_key(path.rsplit('/').next()?) => 200,
        _ if path == "/v2/" => 200,
        _ => 404,
    };
    drop(held);
    let mut stream = stream;
    stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{more}\r\n").as_bytes()).ok()
}

/// A medium with one layer of 20 MB that does not compress.
fn large(at: &Path) -> u64 {
    let tar = crate::support::pushed::tar("data", &crate::support::pushed::noise(7, 20_000_000));
    let size = tar.len() as u64;
    layout().with(image("a.io/large:1").layer(tar).plain()).write_dir(&at.join("layout"));
    let from = oci(&at.join("layout"));
    run(
        0,
        [
            "export",
            "--from",
            &from,
            "--all",
            "--platform",
            "linux/amd64",
            "--compression",
            "none",
            "--to",
            text(&at.join("m")),
        ],
    );
    size
}

#[test]
fn an_upload_that_is_cut_ten_times_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let size = large(directory.path());
    let cuts = vec![900_000, 10, 2_000_000, 1, 4_000_000, 77, 1_234_567, 3_999_999, 500_000, 100];
    let server = Keeping::start(cuts);
    let target = format!("127.0.0.1:{}", server.port);
    let lines = push(0, directory.path(), &directory.path().join("m"), &target, &["--retries", "12"]);
    assert_eq!(summary(&lines)["blobsSent"], 2);
    let got = server.got.load(Ordering::SeqCst);
    assert!(got as f64 <= size as f64 * 1.02, "{got} of {size}");
    let held = server.held.lock().unwrap();
    assert!(held.cuts.is_empty() && held.manifests.len() == 1, "{:?}", held.manifests);
    assert_eq!(fs::read_dir(directory.path().join("state/push")).unwrap().count(), 0, "no note is left");
}

#[test]
fn another_run_goes_on_with_an_upload() {
    let directory = tempfile::tempdir().unwrap();
    let size = large(directory.path());
    // The first chunk of the layer is cut in each of two runs, which try it once.
    let server = Keeping::start(vec![1_000_000, 2_000_000]);
    let target = format!("127.0.0.1:{}", server.port);
    let medium = directory.path().join("m");
    for _ in 0..2 {
        push(6, directory.path(), &medium, &target, &["--retries", "0"]);
    }
    push(0, directory.path(), &medium, &target, &[]);
    let got = server.got.load(Ordering::SeqCst);
    assert!(got as f64 <= size as f64 * 1.02, "{got} of {size}");
}

#[test]
fn a_registry_that_gives_cut_uploads_up_gets_them_again() {
    if !have(&["docker-registry", "crane"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    large(directory.path());
    let server = Server::start(Setup::default());
    let wire = cutting(server.port, vec![6_000_000, 9_000_000]);
    let target = format!("127.0.0.1:{wire}");
    push(0, directory.path(), &directory.path().join("m"), &target, &["--retries", "5"]);
    let to = directory.path().join("back");
    tool(
        "crane",
        &["pull", "--insecure", "--format", "oci", &format!("{}/large:1", server.name()), text(&to)],
    );
}

/// A wire that cuts each connection that carries more than the next of these numbers of bytes to the server.
fn cutting(port: u16, mut after: Vec<u64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let limits = Arc::new(Mutex::new(std::mem::take(&mut after)));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let limits = limits.clone();
            std::thread::spawn(move || {
                let (mut client, mut server, mut sent) = (client, server, 0);
                let mut buffer = vec![0; 64 << 10];
                while let Ok(n @ 1..) = client.read(&mut buffer) {
                    sent += n as u64;
                    let mut limits = limits.lock().unwrap();
                    if limits.last().is_some_and(|limit| sent > *limit) {
                        limits.pop();
                        break;
                    }
                    drop(limits);
                    if server.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    own
}

#[test]
fn a_damaged_layer_never_arrives() {
    if !have(&["docker-registry"]) {
        return;
    }
    let room = Room::new();
    let server = Server::start(Setup::default());
    let layer = room.layout.find(KEPT).manifests[0].layers[0].digest;
    crate::support::carry::flip(&room.blob(layer));
    let lines = push(4, room.directory.path(), &room.medium(), &server.name(), &["--keep-going"]);
    assert_eq!(summary(&lines)["images"], 2);
    let catalog = tool("crane", &["ls", "--insecure", &format!("{}/team/both", server.name())]);
    assert_eq!(catalog.trim(), "2");
}

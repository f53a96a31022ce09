//! What is answered, request by request: the pull and discovery parts of the distribution specification.

use std::fs;

use pannier::image::Digest;

use crate::mirror::{APP, BOTH, KEPT, Mirror, Room};
use crate::support::carry::{flip, run, text};
use crate::support::registry::{Authority, have};

fn path_of(name: &str) -> (String, String) {
    let reference: pannier::image::Reference = name.parse().unwrap();
    (format!("{}?ns={}", reference.tag().unwrap(), reference.registry()), reference.path().to_owned())
}

#[test]
fn a_tag_points_at_upstreams_digest_where_all_of_it_is_kept_and_at_the_carried_one_otherwise() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    for (name, upstream) in [(APP, false), (BOTH, false), (KEPT, true)] {
        let image = room.image(name);
        let expected = if upstream { &image.original } else { &image.carried };
        assert_eq!(image.original == image.carried, upstream, "{name}");
        let (tag, path) = path_of(name);
        let head = mirror.ask("HEAD", &format!("/v2/{path}/manifests/{tag}"), &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("docker-content-digest"), Some(expected.digest.to_string().as_str()));
        assert_eq!(head.header("content-length"), Some(expected.size.to_string().as_str()));
        assert_eq!(head.header("content-type"), Some(expected.media_type.as_str()));
        // By the bare path, and below the registry's name.
        let reference: pannier::image::Reference = name.parse().unwrap();
        for path in [reference.path(), reference.repository()] {
            let reply = mirror.get(&format!("/v2/{path}/manifests/{}", reference.tag().unwrap()));
            assert_eq!(Digest::of(&reply.body), expected.digest, "{path}");
        }
        // Upstream's own documents answer by their digest in any case.
        let original =
            mirror.get(&format!("/v2/{path}/manifests/{}?ns={}", image.original.digest, "other.registry"));
        assert_eq!(Digest::of(&original.body), image.original.digest);
    }
    let gone = room.layout.find(APP).manifests[0].layers[0].digest;
    let reply = mirror.get(&format!("/v2/library/app/blobs/{gone}"));
    assert_eq!(reply.status, 404);
    let (code, message) = reply.error();
    assert!(code == "BLOB_UNKNOWN" && message.contains("another compression"), "{message}");
}

#[test]
fn blobs_come_whole_and_in_parts_and_head_tells_their_length() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let layer = room.layout.find(KEPT).manifests[0].layers[0].clone();
    let bytes = &room.layout.blobs[&layer.digest];
    let target = format!("/v2/registry.local/team/kept/blobs/{}", layer.digest);
    let range = |range: &str| mirror.ask("GET", &target, &[("Range", range)]);
    let size = bytes.len();
    // Before the whole blob was read once, and after it.
    for _ in 0..2 {
        for (asked, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=1048570-1100000".to_owned(), 1_048_570, 1_100_001),
            (format!("bytes={}-", size - 5), size - 5, size),
            ("bytes=-7".to_owned(), size - 7, size),
        ] {
            let reply = range(&asked);
            assert_eq!(reply.status, 206, "{asked}");
            let expected = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(reply.header("content-range"), Some(expected.as_str()));
            assert!(reply.body == bytes[from..to], "{asked}");
        }
        let reply = range(&format!("bytes={size}-"));
        let unsatisfied = format!("bytes */{size}");
        assert_eq!((reply.status, reply.header("content-range")), (416, Some(unsatisfied.as_str())));
        let reply = mirror.ask("GET", &target, &[("Accept-Encoding", "zstd, gzip")]);
        assert!(reply.status == 200 && reply.body == *bytes);
        assert_eq!(reply.header("content-encoding"), None);
        assert_eq!(reply.header("accept-ranges"), Some("bytes"));
    }
    let other = mirror.ask("GET", &target, &[("Range", "bytes=5-6"), ("If-Range", "\"other\"")]);
    assert!(other.status == 200 && other.body == *bytes);
    let same = format!("\"{}\"", layer.digest);
    assert_eq!(mirror.ask("GET", &target, &[("Range", "bytes=5-6"), ("If-Range", &same)]).body, bytes[5..7]);
    let head = mirror.ask("HEAD", &target, &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some(size.to_string().as_str())));
    assert_eq!(head.header("docker-content-digest"), Some(layer.digest.to_string().as_str()));
}

#[test]
fn what_is_there_is_listed_and_what_is_not_is_told_from_it() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    assert_eq!(mirror.get("/v2/").json(), serde_json::json!({}));
    assert_eq!(mirror.get("/v2/").header("docker-distribution-api-version"), Some("registry/2.0"));
    let catalog = mirror.get("/v2/_catalog").json();
    assert_eq!(
        catalog["repositories"],
        serde_json::json!(["docker.io/library/app", "registry.local/team/both", "registry.local/team/kept"])
    );
    let tags = mirror.get("/v2/team/both/tags/list");
    assert_eq!(tags.json(), serde_json::json!({"name": "team/both", "tags": ["2"]}));
    let unknown = Digest::of(b"nothing");
    for (target, status, code) in [
        ("/v2/app/manifests/9".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("/v2/nobody/manifests/1".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/app/manifests/1?ns=registry.local".to_owned(), 404, "NAME_UNKNOWN"),
        ("/v2/nobody/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        (format!("/v2/app/blobs/{unknown}"), 404, "BLOB_UNKNOWN"),
        (format!("/v2/app/manifests/{unknown}"), 404, "MANIFEST_UNKNOWN"),
        ("/v2/app/manifests/sha256:abc".to_owned(), 400, "DIGEST_INVALID"),
        ("/v2/App/manifests/1".to_owned(), 400, "NAME_INVALID"),
    ] {
        let reply = mirror.get(&target);
        assert_eq!((reply.status, reply.error().0.as_str()), (status, code), "{target}");
        assert_eq!(mirror.ask("HEAD", &target, &[]).status, status);
    }
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let reply = mirror.ask(method, "/v2/app/blobs/uploads/", &[]);
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
    }
    // A layer is no manifest, whatever it is asked as.
    let layer = room.layout.find(KEPT).manifests[0].layers[0].digest;
    assert_eq!(mirror.get(&format!("/v2/team/kept/manifests/{layer}")).status, 404);
    let empty = mirror.get(&format!("/v2/app/referrers/{unknown}"));
    assert_eq!(
        (empty.status, empty.header("content-type")),
        (200, Some("application/vnd.oci.image.index.v1+json"))
    );
    assert_eq!(empty.json()["manifests"], serde_json::json!([]));
}

#[test]
fn a_body_that_is_not_what_its_digest_says_is_cut_off() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let layer = room.layout.find(KEPT).manifests[0].layers[0].clone();
    flip(&room.blob(layer.digest));
    let target = format!("/v2/team/kept/blobs/{}", layer.digest);
    let reply = mirror.get(&target);
    assert_eq!(reply.status, 200);
    assert!((reply.body.len() as u64) < layer.size, "{} of {}", reply.body.len(), layer.size);
    let part = mirror.ask("GET", &target, &[("Range", "bytes=0-9")]);
    assert!(part.body.is_empty(), "not even a part of it that would be right is given");
    // A manifest is read before the first byte of it is sent.
    let manifest = room.image(KEPT).original.digest;
    flip(&room.blob(manifest));
    let reply = mirror.get(&format!("/v2/team/kept/manifests/{manifest}"));
    assert_eq!(reply.status, 503);
    assert!(reply.error().1.contains("is damaged"), "{reply:?}");
    fs::remove_file(room.blob(layer.digest)).unwrap();
    assert_eq!(mirror.get(&target).status, 404);
    let metrics = mirror.get("/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("pannier_damaged_total 3\n"), "{metrics}");
    assert!(metrics.contains("pannier_requests_total{code=\"2xx\"}"), "{metrics}");
    let cut = mirror.log().into_iter().filter(|line| !line["cut"].is_null()).count();
    assert_eq!(cut, 2);
}

#[test]
fn a_damaged_document_takes_its_image_off_and_the_others_stay() {
    let room = Room::new();
    flip(&room.blob(room.image(APP).carried.digest));
    let mirror = Mirror::of(&room.medium(), &[]);
    let reply = mirror.get("/v2/app/manifests/1");
    assert_eq!(reply.status, 404);
    assert!(reply.error().1.contains("not all here"), "{reply:?}");
    assert_eq!(mirror.get("/v2/team/kept/manifests/3").status, 200);
    let page = String::from_utf8(mirror.get("/").body).unwrap();
    assert!(page.contains("not served by its tag"), "{page}");
}

#[test]
fn a_page_tells_people_what_is_served() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let reply = mirror.get("/");
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let page = String::from_utf8(reply.body).unwrap();
    for part in [
        APP,
        BOTH,
        KEPT,
        "3 images",
        "linux/arm64",
        "upstream&#39;s",
        "width=device-width",
        "Verified",
        "Signed",
    ] {
        let part = part.replace("&#39;", "'");
        assert!(page.contains(&part), "{part} in {page}");
    }
    let health = mirror.get("/healthz");
    assert_eq!((health.status, health.body.as_slice()), (200, b"ok\n".as_slice()));
}

#[test]
fn logins_are_wanted_where_there_is_a_file_of_them() {
    if !have(&["htpasswd"]) {
        return;
    }
    let room = Room::new();
    let file = room.path("htpasswd");
    fs::write(&file, crate::support::registry::run("htpasswd", &["-Bbn", "-C", "5", "me", "secret"]))
        .unwrap();
    let mirror = Mirror::of(&room.medium(), &["--htpasswd", text(&file)]);
    let with = |login: &str| mirror.ask("GET", "/v2/app/manifests/1", &[("Authorization", login)]);
    let refused = mirror.get("/v2/");
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Basic realm=\"pannier\"")));
    assert_eq!(refused.error().0, "UNAUTHORIZED");
    // bWU6c2VjcmV0 is me:secret, bWU6d3Jvbmc= is me:wrong.
    for (login, status) in
        [("Basic bWU6c2VjcmV0", 200), ("basic bWU6c2VjcmV0", 200), ("Basic bWU6d3Jvbmc=", 401)]
    {
        for _ in 0..2 {
            assert_eq!(with(login).status, status, "{login}");
        }
    }
    for target in ["/", "/metrics", "/v2/_catalog"] {
        assert_eq!(mirror.get(target).status, 401, "{target}");
    }
    assert_eq!(mirror.get("/healthz").status, 200);
    assert_eq!(mirror.log().iter().filter(|line| line["user"] == "me").count(), 4);
    fs::write(&file, "me:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=").unwrap();
    let said = run(2, ["serve", text(&room.medium()), "--htpasswd", text(&file)]).stderr();
    assert!(said.contains("htpasswd -B"), "{said}");
}

#[test]
fn tls_shows_the_certificate_and_serves_the_same() {
    if !have(&["openssl", "skopeo"]) {
        return;
    }
    let room = Room::new();
    let authority = Authority::new();
    let (certificate, key) = authority.issue(room.directory.path());
    let mirror = Mirror::of(&room.medium(), &["--tls-cert", text(&certificate), "--tls-key", text(&key)]);
    let certificates = room.path("certs");
    fs::create_dir(&certificates).unwrap();
    fs::copy(authority.certificate(), certificates.join("ca.crt")).unwrap();
    let from = format!("docker://localhost:{}/team/kept:3", mirror.address.port());
    let raw = crate::support::registry::run(
        "skopeo",
        &["inspect", "--raw", "--cert-dir", text(&certificates), &from],
    );
    assert_eq!(Digest::of(raw.as_bytes()), room.image(KEPT).original.digest);
    // Plain HTTP gets no answer that could be taken for one.
    assert!(!String::from_utf8_lossy(&mirror.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).contains("200"));
    let said =
        run(2, ["serve", text(&room.medium()), "--tls-cert", text(&key), "--tls-key", text(&key)]).stderr();
    assert!(said.contains("cannot be used for TLS"), "{said}");
}

#[test]
fn a_medium_that_trust_refuses_is_not_served() {
    let room = Room::new();
    let allowed = room.path("allowed");
    fs::write(&allowed, "").unwrap();
    let said = run(4, ["serve", text(&room.medium()), "--allowed-signers", text(&allowed)]).stderr();
    assert!(said.contains("not to be trusted"), "{said}");
    let said = run(1, ["serve", text(&room.path("layout"))]).stderr();
    assert!(said.contains("it has no commit record"), "{said}");
}

#[test]
fn sigterm_lets_what_is_under_way_end() {
    let room = Room::new();
    let layer = room.layout.find(KEPT).manifests[0].layers[0].clone();
    let mut mirror = Mirror::of(&room.medium(), &[]);
    use std::io::{Read, Write};
    let mut slow = mirror.connect();
    let request = format!("GET /v2/team/kept/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", layer.digest);
    slow.write_all(request.as_bytes()).unwrap();
    let mut first = [0; 1000];
    slow.read_exact(&mut first).unwrap();
    let _idle = mirror.connect();
    mirror.signal();
    // It takes no connection any more, and the one that is under way comes to its end.
    while std::net::TcpStream::connect(mirror.address).is_ok() {
        std::thread::yield_now();
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    let reply = crate::mirror::reply(&[&first[..], &rest].concat());
    assert_eq!(Digest::of(&reply.body), layer.digest);
    assert_eq!(mirror.wait(), Some(0));
}

#[test]
fn several_media_are_one_registry() {
    let (one, two) = (Room::new(), Room::new());
    // The second has other bytes for one of the names, and an image of its own.
    let from = crate::support::layout::layout().with(
        crate::support::layout::image("a.io/only:1").layer(crate::support::layout::files([("x", "y")])),
    );
    from.write_dir(&two.path("other"));
    let source = crate::support::carry::oci(&two.path("other"));
    run(0, ["export", "--from", &source, "--all", "--to", text(&two.path("m2"))]);
    let (first, second) = (one.medium(), two.path("m2"));
    let mirror = Mirror::start(&[text(&first), text(&second)]);
    for path in ["/v2/app/manifests/1", "/v2/a.io/only/manifests/1"] {
        assert_eq!(mirror.get(path).status, 200, "{path}");
    }
    assert_eq!(mirror.end(), Some(0));
}

#[test]
fn the_mirror_is_asked_for_everything_on_a_medium_and_digests_stand_side_by_side() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let medium = room.medium();
    let check = |status: i32, url: &str, medium: &std::path::Path| {
        run(status, ["hosts", text(medium), "--mirror", url, "--check"]).stderr()
    };
    let said = check(0, &mirror.url(), &medium);
    assert!(said.contains("all of it: 3 names"), "{said}");
    let other = crate::support::layout::layout().with(
        crate::support::layout::image("a.io/only:1").layer(crate::support::layout::files([("x", "y")])),
    );
    other.write_dir(&room.path("other"));
    let source = crate::support::carry::oci(&room.path("other"));
    run(0, ["export", "--from", &source, "--all", "--to", text(&room.path("m2"))]);
    let said = check(1, &mirror.url(), &room.path("m2"));
    assert!(said.contains("a.io/only:1"), "{said}");

    let digests = run(0, ["digests", text(&medium), "--json"]).json();
    let rows = digests["images"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let image = room.image(row["name"].as_str().unwrap());
        assert_eq!(row["upstream"], image.original.digest.to_string());
        assert_eq!(row["carried"], image.carried.digest.to_string());
    }
    let table = run(0, ["digests", text(&medium)]).stdout();
    assert!(table.lines().any(|line| line.starts_with(KEPT) && line.ends_with("the same")), "{table}");
    let map = run(0, ["digests", text(&medium), "--kustomize"]).stdout();
    let carried = room.image(APP).carried.digest;
    assert!(map.contains(&format!("- name: app\n  digest: {carried}\n")), "{map}");

    let printed = run(0, ["hosts", "--mirror", "https://m.example/k8s", "--distribution", "k3s"]).stdout();
    assert!(
        printed.contains("etc/rancher/k3s/registries.yaml") && printed.contains("https://m.example/v2/k8s"),
        "{printed}"
    );
    run(2, ["hosts", "--mirror", "m.example"]);
    run(2, ["hosts", "--mirror", "http://m.example", "--distribution", "windows"]);
    run(2, ["hosts", "--mirror", "http://m.example", "--registry", "UPPER/x"]);
}

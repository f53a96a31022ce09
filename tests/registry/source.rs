//! A real registry on loopback: plain, with a login, by TLS, behind a proxy, on a wire that is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::pushed::{self, Layout, noise};
use crate::support::registry::{Authority, Fate, Server, Setup, Wire, have};
use pannier::error::Error;
use pannier::image::{Descriptor, Reference};
use pannier::source::registry::{Login, Options, Registry};
use pannier::source::{self, Source};

const TOOLS: [&str; 4] = ["docker-registry", "skopeo", "openssl", "htpasswd"];

fn plain(names: &[&str]) -> Options {
    let insecure: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Options { insecure, retries: 2, stall: Duration::from_secs(10), ..Options::default() }
}

fn reference(text: String) -> Reference {
    text.parse().unwrap()
}

/// Reads everything that belongs to an image, verified.
fn pull(source: &dyn Source, image: &Reference, layout: &Layout) {
    let root = source.resolve(image).unwrap();
    assert_eq!(root, layout.root);
    for blob in std::iter::once(&root).chain(&layout.manifests).chain(&layout.layers) {
        assert!(source.holds(image, blob).unwrap());
        assert!(source::read(source, image, blob, u64::MAX).unwrap() == layout.read(blob));
    }
}

#[test]
fn an_image_is_pulled_blob_for_blob() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout =
        Layout::new(&["linux/amd64", "linux/arm64"], &[("a", noise(1, 100_000)), ("b", b"b".to_vec())]);
    layout.push(&format!("{}/team/app:1", server.name()), &[]);
    let source = Registry::new(plain(&[&server.name()])).unwrap();
    pull(&source, &reference(format!("{}/team/app:1", server.name())), &layout);
    pull(&source, &reference(format!("{}/team/app@{}", server.name(), layout.root.digest)), &layout);
    pull(&source, &reference(format!("{}/team/app:1@{}", server.name(), layout.root.digest)), &layout);

    let image = reference(format!("{}/team/app:1", server.name()));
    let absent = Descriptor::of("application/octet-stream", b"absent");
    let other = Descriptor { media_type: pushed::MANIFEST.into(), ..absent.clone() };
    assert!(!source.holds(&image, &other).unwrap());
    assert!(matches!(source.open_unverified(&image, &absent, 0), Err(Error::NotFound { .. })));
    assert!(matches!(source.list(), Err(Error::Usage(_))));
}

#[test]
fn a_digest_is_what_counts_and_the_tag_beside_it_tells_what_it_names_now() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let (old, new) =
        (Layout::new(&["linux/amd64"], &[("a", b"1".to_vec())]), Layout::new(&["linux/amd64"], &[]));
    let name = format!("{}/app:1", server.name());
    old.push(&name, &[]);
    new.push(&name, &[]);
    let source = Registry::new(plain(&[&server.name()])).unwrap();
    let both = reference(format!("{name}@{}", old.root.digest));
    assert_eq!(source.resolve(&both).unwrap().digest, old.root.digest);
    assert_eq!(source.tagged(&both).unwrap(), Some(new.root.digest));
    let gone = reference(format!("{}/app:2@{}", server.name(), old.root.digest));
    assert_eq!(source.tagged(&gone).unwrap(), None);
    assert_eq!(source.tags(&both).unwrap(), ["1"]);
}

#[test]
fn reading_starts_at_any_offset() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(2, 300_000))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    let source = Registry::new(plain(&[&server.name()])).unwrap();
    let image = reference(format!("{}/app:1", server.name()));
    for blob in [&layout.layers[0], &layout.manifests[0]] {
        let whole = layout.read(blob);
        for offset in [0, 1, blob.size / 2, blob.size - 1, blob.size] {
            let mut rest = Vec::new();
            source.open_unverified(&image, blob, offset).unwrap().read_to_end(&mut rest).unwrap();
            assert!(rest == whole[offset as usize..], "from {offset} of {}", blob.size);
        }
    }
}

#[test]
fn a_login_comes_from_the_command_line_or_is_missed() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup { login: Some(("me", "secret:word")), ..Setup::default() });
    let layout = Layout::new(&["linux/amd64"], &[("a", b"a".to_vec())]);
    let name = format!("{}/app:1", server.name());
    layout.push(&name, &["--dest-creds", "me:secret:word"]);
    let image = reference(name);

    let anonymous = Registry::new(plain(&[&server.name()])).unwrap();
    let error = anonymous.resolve(&image).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("docker login"), "{error}");

    let with = |login: &str| {
        let logins = BTreeMap::from([(server.name(), Login::parse(login).unwrap())]);
        Registry::new(Options { logins, ..plain(&[&server.name()]) }).unwrap()
    };
    pull(&with("me:secret:word"), &image, &layout);
    let error = with("me:wrongword").resolve(&image).unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("not accepted"), "{error}");
    assert!(!error.contains("wrongword"), "{error}");
}

#[test]
fn a_private_authority_is_trusted_when_given_and_only_then() {
    if !have(&TOOLS) {
        return;
    }
    let authority = Authority::new();
    let server = Server::start(Setup { tls: Some(&authority), ..Setup::default() });
    let layout = Layout::new(&["linux/amd64"], &[("a", b"a".to_vec())]);
    let name = format!("localhost:{}/app:1", server.port);
    layout.push(&name, &[]);
    let image = reference(name);

    let strict = Registry::new(Options { retries: 0, ..Options::default() }).unwrap();
    let error = strict.resolve(&image).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(matches!(error, Error::Unreachable { .. }) && cause.contains("--ca-file"), "{error}: {cause}");

    let ca_files = vec![authority.certificate()];
    pull(&Registry::new(Options { ca_files, ..Options::default() }).unwrap(), &image, &layout);
    let named = format!("localhost:{}", server.port);
    pull(&Registry::new(plain(&[&named])).unwrap(), &image, &layout);
    // The name of another registry allows nothing here.
    let other = Registry::new(plain(&["other.test"])).unwrap();
    assert!(matches!(other.resolve(&image), Err(Error::Unreachable { .. })));
}

#[test]
fn plain_http_needs_to_be_allowed_by_name() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let image = reference(format!("{}/app:1", server.name()));
    let source = Registry::new(Options { retries: 0, ..Options::default() }).unwrap();
    let error = source.resolve(&image).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("--insecure"), "{error}: {cause}");
}

#[test]
fn a_layer_cut_twenty_times_is_fetched_about_once() {
    if !have(&TOOLS) {
        return;
    }
    const CUTS: u64 = 20;
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(3, 64 << 20))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    let layer = layout.layers[0].clone();
    let part = layer.size / (CUTS + 1);
    let wire = Wire::to(server.port, move |number| match number {
        // The first connection is the one that finds out that there is no TLS.
        1..=CUTS => Fate::CutAfter(part),
        _ => Fate::Whole,
    });
    let source = Registry::new(plain(&[&wire.name()])).unwrap();
    let image = reference(format!("{}/app:1", wire.name()));
    let bytes = source::read(&source, &image, &layer, u64::MAX).unwrap();
    assert!(bytes == layout.read(&layer));
    assert_eq!(wire.broken.load(Ordering::SeqCst), CUTS);
    let passed = wire.passed.load(Ordering::SeqCst);
    eprintln!("{passed} bytes for a layer of {}: {:.5}", layer.size, passed as f64 / layer.size as f64);
    assert!(passed * 100 <= layer.size * 105, "{passed} bytes for a layer of {}", layer.size);
}

#[test]
fn a_stalled_connection_is_given_up_and_gone_on_with() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(4, 1 << 20))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    let wire =
        Wire::to(server.port, |number| if number == 1 { Fate::StallAfter(500_000) } else { Fate::Whole });
    let options = Options { stall: Duration::from_millis(500), ..plain(&[&wire.name()]) };
    let source = Registry::new(options).unwrap();
    let image = reference(format!("{}/app:1", wire.name()));
    let bytes = source::read(&source, &image, &layout.layers[0], u64::MAX).unwrap();
    assert!(bytes == layout.read(&layout.layers[0]));
    assert_eq!(wire.broken.load(Ordering::SeqCst), 1);
    assert!(wire.passed.load(Ordering::SeqCst) < layout.layers[0].size + 10_000);
}

#[test]
fn a_registry_that_always_cuts_at_the_same_place_is_given_up() {
    if !have(&TOOLS) {
        return;
    }
    let server = Server::start(Setup::default());
    let layout = Layout::new(&["linux/amd64"], &[("a", noise(5, 1 << 20))]);
    layout.push(&format!("{}/app:1", server.name()), &[]);
    // No connection gets further than the head of the answer.
    let wire = Wire::to(server.port, |number| if number == 0 { Fate::Whole } else { Fate::CutAfter(400) });
    let source = Registry::new(Options { retries: 1, ..plain(&[&wire.name()]) }).unwrap();
    let image = reference(format!("{}/app:1", wire.name()));
    let error = source::read(&source, &image, &layout.layers[0], u64::MAX).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(wire.broken.load(Ordering::SeqCst), 2);
}

//! Names that are true: a name by digest points at just that digest, and pods start by every name.

use std::collections::BTreeSet;

use crate::support::carry::{run, text};
use crate::support::cluster::{
    Bench, app, assert_starts, by_digest, images, import, pause, program, versions,
};
use crate::support::layout::{Layout, index, layout, noise, unnamed, unnamed_index};
use crate::support::node::Node;
use pannier::containerd::cri_api::image_service_client::ImageServiceClient;
use pannier::containerd::cri_api::{ImageSpec, RemoveImageRequest};
use pannier::image::{Digest, Reference};

const APP: &str = "docker.io/library/app:1";
const NESTED: &str = "docker.io/library/nested:1";
const PLAIN: &str = "docker.io/library/plain:1";

/// An image under an index of several platforms, one under an index within an index, and one without any.
fn set() -> Layout {
    let own = || unnamed().layer(noise("data/base", 1, 60_000)).layer(program("podmain"));
    let arm = || unnamed().platform("linux/arm64/v8").layer(noise("data/arm", 2, 60_000));
    layout()
        .with(pause())
        .with(index(APP).with(arm()).with(own()).attested())
        .with(index(NESTED).with(unnamed_index().with(own().env("PATH=/usr/bin:/bin:/nested")).with(arm())))
        .with(app(PLAIN).layer(noise("data/plain", 3, 60_000)))
}

/// The digests of the source by which pods ask for an image: of what it was exported as, and of its manifest.
fn digests(set: &Layout, name: &str) -> [Digest; 2] {
    let stored = set.find(name);
    let own = stored.manifests.iter().find(|manifest| manifest.platform == "linux/amd64").unwrap();
    [stored.descriptor.digest, own.descriptor.digest]
}

fn names(set: &Layout) -> Vec<String> {
    let of = |name: &&str| {
        let repository = name.rsplit_once(':').unwrap().0.to_owned();
        let digests = digests(set, name).map(|digest| by_digest(&repository, digest));
        digests.into_iter().chain([(*name).to_owned()])
    };
    let names: BTreeSet<String> = [APP, NESTED, PLAIN].iter().flat_map(of).collect();
    names.into_iter().collect()
}

/// Lists the images as Spegel does: it parses each name with the target's digest, and gives up at the first name
/// by another digest (its `pkg/oci`, `ParseImage`).
fn list_as_spegel(node: &Node) -> Vec<String> {
    let records = node.client().list_images().unwrap();
    let named = records.into_iter().filter(|record| !record.name.starts_with("sha256:"));
    let parse = |record: pannier::containerd::ImageRecord| {
        let name: Reference = record.name.parse().unwrap();
        let digest = name.digest().unwrap_or(record.target.digest);
        assert_eq!(digest, record.target.digest, "set digest does not match parsed digest: {}", record.name);
        record.name
    };
    named.map(parse).collect()
}

fn assert_all_start(node: &Node, set: &Layout) {
    names(set).iter().for_each(|name| assert_starts(node, name));
}

fn nothing_to_do(node: &Node, medium: &std::path::Path) {
    let again = import(0, node, medium, &[]).json();
    assert_eq!((&again["bytesSent"], &again["names"]), (&0.into(), &0.into()), "{again}");
}

/// What `crictl rmi` asks for.
fn remove_image(node: &Node, name: &str) {
    let socket = node.socket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
        });
        let channel = tonic::transport::Endpoint::from_static("http://localhost")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let image = Some(ImageSpec { image: name.to_owned() });
        ImageServiceClient::new(channel).remove_image(RemoveImageRequest { image }).await.unwrap();
    });
}

#[test]
fn pods_start_by_each_name_and_each_name_by_digest_points_at_that_digest() {
    let bench = Bench::new();
    let set = set();
    let medium = bench.medium("m", &set);
    for version in versions() {
        let mut node = Node::start(version);
        import(0, &node, &medium, &[]);
        let listed = list_as_spegel(&node);
        for name in names(&set) {
            assert!(listed.contains(&name), "{version}: {name} in {listed:?}");
        }
        nothing_to_do(&node, &medium);
        node.client().collect_garbage().unwrap();
        assert_all_start(&node, &set);
        node.restart();
        node.client().collect_garbage().unwrap();
        assert_all_start(&node, &set);
        let config = node.client().cri_image(APP).unwrap().unwrap().id;
        for digest in digests(&set, APP) {
            let seen = node.client().cri_image(&by_digest("docker.io/library/app", digest)).unwrap().unwrap();
            assert_eq!(seen.id, config);
        }
        images(0, &node, &["--check"]);
        nothing_to_do(&node, &medium);
        assert_eq!(list_as_spegel(&node), listed);
    }
}

#[test]
fn a_name_or_an_image_that_is_removed_leaves_the_rest_as_it_was_and_comes_back() {
    let bench = Bench::new();
    let set = set();
    let medium = bench.medium("m", &set);
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let [original, manifest] = digests(&set, APP);
        // Each name holds by itself all that a start by it takes.
        let all = [original, manifest].map(|digest| by_digest("docker.io/library/app", digest));
        let names = node.client().list_images().unwrap();
        let of_app = names.iter().filter(|record| record.name.starts_with("docker.io/library/app"));
        let of_app: Vec<_> = of_app.collect();
        for stays in &all {
            for record in of_app.iter().filter(|record| record.name != *stays) {
                node.client().delete_image(&record.name, &record.target).unwrap();
            }
            node.client().collect_garbage().unwrap();
            assert_starts(&node, stays);
            images(0, &node, &["--check"]);
            import(0, &node, &medium, &[]);
            images(0, &node, &["--check"]);
            assert_all_start(&node, &set);
        }
        // CRI takes an image away with all of its names.
        remove_image(&node, &all[0]);
        let left = list_as_spegel(&node);
        assert!(!left.iter().any(|name| name.starts_with("docker.io/library/app")), "{left:?}");
        node.client().collect_garbage().unwrap();
        assert!(node.client().blob(original).unwrap().is_none());
        assert_starts(&node, PLAIN);
        import(0, &node, &medium, &[]);
        assert_all_start(&node, &set);
        nothing_to_do(&node, &medium);
    }
}

#[test]
fn a_node_with_names_of_before_is_changed_over_and_sent_nothing() {
    let bench = Bench::new();
    let set = set();
    let medium = bench.medium("m", &set);
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        // As pannier 0.1.0 left it: all names point at one target, and only that keeps what it needs.
        let client = node.client();
        for name in [APP, NESTED, PLAIN] {
            let repository = name.rsplit_once(':').unwrap().0;
            let target = client.image(name).unwrap().unwrap().target;
            for digest in digests(&set, name) {
                let by_digest = by_digest(repository, digest);
                client.set_image(&by_digest, &target, &Default::default()).unwrap();
                let labels = client.blob(digest).unwrap().unwrap().labels;
                let keys = labels.keys().filter(|key| key.starts_with("containerd.io/gc.ref"));
                client.label_blob(digest, keys.map(|key| (key.as_str(), ""))).unwrap();
            }
        }
        client.collect_garbage().unwrap();
        let ran = import(0, &node, &medium, &[]);
        let summary = ran.json();
        assert_eq!((&summary["bytesSent"], &summary["layersUnpacked"]), (&0.into(), &0.into()), "{summary}");
        assert_eq!(summary["names"], 6 - 1, "{summary}");
        assert!(!ran.stdout().contains("was moved"), "{}", ran.stdout());
        list_as_spegel(&node);
        client.collect_garbage().unwrap();
        assert_all_start(&node, &set);
        nothing_to_do(&node, &medium);
    }
}

#[test]
fn what_is_not_unpacked_has_all_names_on_what_is_there_until_it_is() {
    let bench = Bench::new();
    let set = set();
    let medium = bench.medium("m", &set);
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &["--no-unpack"]);
        let target = |name: &str| node.client().image(name).unwrap().unwrap().target.digest;
        let [original, _] = digests(&set, APP);
        let by_index = by_digest("docker.io/library/app", original);
        assert_eq!(target(&by_index), target(APP));
        assert_starts(&node, &by_index);
        let again = import(0, &node, &medium, &[]).json();
        assert_eq!(again["bytesSent"], 0, "{again}");
        assert_eq!(target(&by_index), original);
        list_as_spegel(&node);
        // What is unpacked keeps its true names, whatever is asked for.
        let again = import(0, &node, &medium, &["--no-unpack"]).json();
        assert_eq!((&again["bytesSent"], &again["names"]), (&0.into(), &0.into()), "{again}");
        assert_all_start(&node, &set);
    }
}

#[test]
fn what_a_node_has_is_exported_and_listed_once_whatever_names_it_has() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &set());
    let node = Node::start(version);
    import(0, &node, &medium, &[]);
    let (socket, again) = (node.socket(), bench.path("again"));
    let export = |to: &std::path::Path| {
        run(0, ["export", "--from", "containerd", "-a", text(&socket), "--all", "--to", text(to)]);
        let medium = pannier::medium::Medium::open(to).unwrap();
        medium.record().unwrap().images.len()
    };
    assert_eq!(export(&again), 4);
    let inventory = run(0, ["inventory", "-a", text(&socket)]).json();
    let held = inventory["images"].as_array().unwrap();
    assert_eq!(held.len(), 4, "{inventory}");
    // By tag, and by the digests of the target, the index and the manifest.
    let named = held.iter().find(|image| image["names"].to_string().contains("library/app:1")).unwrap();
    assert_eq!(named["names"].as_array().unwrap().len(), 4, "{named}");
    // Without its tag it is still one image.
    let tag = node.client().image(APP).unwrap().unwrap();
    node.client().delete_image(APP, &tag.target).unwrap();
    assert_eq!(export(&bench.path("untagged")), 4);
}

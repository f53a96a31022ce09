//! Imports into real containerds of all versions: pods start by every name, and what is there is not
//! sent again.

use std::collections::BTreeSet;
use std::fs;

use crate::support::carry::{oci, peak, run, text};
use crate::support::cluster::{
    Bench, app, assert_starts, available, by_digest, images, import, pause, program, versions,
};
use crate::support::layout::{Layout, files as tar, image, index, layout, noise, unnamed};
use crate::support::node::Node;
use pannier::containerd::{ImageRecord, label};
use pannier::image::Digest;
use pannier::medium::Medium;
use serde_json::Value;

/// One of each kind: several platforms under an index, Docker's types, zstd and plain layers.
fn several() -> Layout {
    let base = noise("data/base", 1, 400_000);
    layout()
        .with(pause())
        .with(
            index("docker.io/library/multi:1")
                .with(unnamed().layer(base.clone()).layer(program("podmain")))
                .with(unnamed().platform("linux/arm64/v8").layer(noise("data/arm", 2, 100_000)))
                .attested(),
        )
        .with(
            app("quay.io/team/docker:2")
                .docker()
                .layer(base.clone())
                .gzip_level(1)
                .also("quay.io/team/docker:latest"),
        )
        .with(app("registry.local:5000/plain:1").layer(noise("data/plain", 3, 50_000)).plain())
        .with(app("ghcr.io/team/zstd:1").layer(noise("data/zstd", 4, 50_000)).zstd())
}

/// Every name under which pods ask for the images of [`several`].
fn names(layout: &Layout) -> Vec<String> {
    let mut names = Vec::new();
    for stored in layout.stored().iter().filter(|stored| !stored.names[0].contains("pause")) {
        for name in &stored.names {
            names.push(name.clone());
            let repository = name.rsplit_once(':').unwrap().0;
            names.push(by_digest(repository, stored.descriptor.digest));
            names.push(by_digest(repository, stored.manifests[0].descriptor.digest));
        }
    }
    names.sort();
    names.dedup();
    names
}

fn number(document: &Value, key: &str) -> u64 {
    document[key].as_u64().unwrap_or_else(|| panic!("{key} in {document}"))
}

// fault-matrix: rows 58
#[test]
fn pods_start_by_tag_and_by_digest_also_after_a_restart_and_a_garbage_collection() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let layout = several();
    let medium = bench.medium("m", &layout);
    for version in versions() {
        let mut node = Node::start(version);
        let first = import(0, &node, &medium, &[]).json();
        assert_eq!(number(&first, "images"), 5);
        let names = names(&layout);
        for name in &names {
            assert_starts(&node, name);
        }
        let again = import(0, &node, &medium, &[]).json();
        assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
        let names_of = |records: Vec<ImageRecord>| {
            let mut names: Vec<String> = records.into_iter().map(|record| record.name).collect();
            names.sort();
            names
        };
        let in_parts = names_of(node.client().list_images_in_parts().unwrap());
        assert_eq!(in_parts, names_of(node.client().list_images().unwrap()));

        node.restart();
        node.client().collect_garbage().unwrap();
        for name in &names {
            assert_starts(&node, name);
        }
        let listed = images(0, &node, &[]).json();
        let listed = listed["images"].as_array().unwrap();
        assert_eq!(listed.len(), 5, "{listed:?}");
        // Of the versions here, only 1.6 is too old to know pins.
        let pins = !version.starts_with("1.6");
        for image in listed {
            assert_eq!(
                (&image["unpacked"], &image["pinned"], image["from"]["sequence"].as_str()),
                (&true.into(), &pins.into(), Some("1")),
                "{image}"
            );
        }
        images(0, &node, &["--check"]);
        assert_as_cri_records_them(&node);
        // Everything hangs on names by now.
        let leases = node.client().list_leases().unwrap();
        assert!(leases.iter().all(|lease| !lease.id.starts_with("pannier")), "{leases:?}");
        let again = import(0, &node, &medium, &[]).json();
        assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
    }
}

/// CRI's own record of each image is as CRI makes it when it meets a name, but for the pin; each name is marked.
fn assert_as_cri_records_them(node: &Node) {
    let records = node.client().list_images().unwrap();
    let managed = |record: &ImageRecord| record.labels[label::MANAGED] == label::MANAGED_VALUE;
    assert!(records.iter().all(managed), "{records:?}");
    let (own, named): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.name.starts_with("sha256:"));
    for record in &own {
        let keys: BTreeSet<&str> = record.labels.keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from([label::MANAGED, label::PINNED]), "{record:?}");
        let same = |of: &&ImageRecord| of.labels.get(pannier::node::label::IMAGE) == Some(&record.name);
        let tagged = named.iter().filter(same).filter(|of| !of.name.contains('@'));
        let targets: BTreeSet<Digest> = tagged.map(|of| of.target.digest).collect();
        assert_eq!(targets, BTreeSet::from([record.target.digest]), "{record:?}");
    }
    assert_eq!(own.len(), 5, "{own:?}");
}

#[test]
fn a_node_that_has_the_originals_is_sent_names_only_and_of_a_changed_image_one_layer() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let base = noise("data/base", 1, 400_000);
    let first = layout().with(pause()).with(
        index("docker.io/library/app:1")
            .with(unnamed().layer(base.clone()).layer(program("podmain")).layer(noise("data/top", 2, 80_000)))
            .attested(),
    );
    let second = layout().with(pause()).with(
        index("docker.io/library/app:1")
            .with(unnamed().layer(base).layer(program("podmain")).layer(noise("data/top", 3, 80_000)))
            .attested(),
    );
    let medium = bench.medium("m", &first);
    let changed = bench.medium("changed", &second);
    let archive = bench.path("originals.tar");
    fs::write(&archive, first.oci_archive()).unwrap();
    for version in versions() {
        let node = Node::start(version);
        node.ctr(&["images", "import", "--all-platforms", text(&archive)]);
        let plan = import(0, &node, &medium, &["--dry-run"]).json();
        assert_eq!(number(&plan, "layersToSend"), 0, "{plan}");
        let before = node.client().image("docker.io/library/app:1").unwrap().unwrap();
        let summary = import(0, &node, &medium, &[]).json();
        assert_eq!((number(&summary, "layersSent"), number(&summary, "layersUnpacked")), (0, 0), "{summary}");
        assert!(number(&summary, "names") > 0);
        let after = node.client().image("docker.io/library/app:1").unwrap().unwrap();
        assert_eq!(before.target, after.target, "the node's own target stays");
        let original = first.find("docker.io/library/app:1");
        for name in [
            "docker.io/library/app:1".to_owned(),
            by_digest("docker.io/library/app", original.descriptor.digest),
            by_digest("docker.io/library/app", original.manifests[0].descriptor.digest),
        ] {
            assert_starts(&node, &name);
        }

        let ran = import(0, &node, &changed, &[]);
        let summary = ran.json();
        assert_eq!((number(&summary, "layersSent"), number(&summary, "layersUnpacked")), (1, 1), "{summary}");
        assert!(ran.stdout().contains("was moved"), "{}", ran.stdout());
        let original = second.find("docker.io/library/app:1");
        for name in [
            "docker.io/library/app:1".to_owned(),
            by_digest("docker.io/library/app", original.descriptor.digest),
        ] {
            assert_starts(&node, &name);
        }
        node.client().collect_garbage().unwrap();
        let again = import(0, &node, &changed, &[]).json();
        assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
        images(0, &node, &["--check"]);
    }
}

#[test]
fn only_the_images_that_are_named_are_imported() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let layout = several();
    let medium = bench.medium("m", &layout);
    let node = Node::start(version);
    let index = layout.find("docker.io/library/multi:1").descriptor.digest;
    let summary = import(0, &node, &medium, &["ghcr.io/team/zstd:1", &by_digest("multi", index)]).json();
    assert_eq!(number(&summary, "images"), 2);
    let listed = images(0, &node, &[]).json();
    assert_eq!(listed["images"].as_array().unwrap().len(), 2);
    import(1, &node, &medium, &["ghcr.io/team/absent:1"]);
}

#[test]
fn a_name_that_moves_is_moved_and_the_image_it_leaves_is_unpinned() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let old = bench.medium("old", &layout().with(pause()).with(app("app:1").layer(noise("v", 1, 9000))));
    let new = bench.medium("new", &layout().with(pause()).with(app("app:1").layer(noise("v", 2, 9000))));
    let node = Node::start("2.1");
    import(0, &node, &old, &[]);
    // CRI takes note of changed records within milliseconds, but by itself.
    let pinned = |id: &str| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let listed = images(0, &node, &[]).json();
        let listed = listed["images"].as_array().unwrap().clone();
        listed.iter().find(|image| image["id"] == id).map(|image| image["pinned"].as_bool().unwrap())
    };
    let id = || node.client().cri_image("docker.io/library/app:1").unwrap().unwrap().id.to_string();
    let first = id();
    assert_eq!(pinned(&first), Some(true));
    import(0, &node, &new, &[]);
    let second = id();
    assert_ne!(first, second);
    assert_eq!((pinned(&first), pinned(&second)), (Some(false), Some(true)));
    assert_starts(&node, "docker.io/library/app:1");

    images(0, &node, &["--unpin", "app:1"]);
    assert_eq!(pinned(&second), Some(false));
    import(0, &node, &new, &["--no-pin"]);
    assert_eq!(pinned(&second), Some(false));
    import(0, &node, &new, &[]);
    assert_eq!(pinned(&second), Some(true));
}

#[test]
fn a_medium_for_another_architecture_is_refused_before_the_first_byte() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(app("app:1")));
    let node = Node::start(version);
    let ran = import(1, &node, &medium, &["--platform", "linux/s390x"]);
    assert!(ran.stderr().contains("linux/amd64") && ran.stderr().contains("linux/s390x"), "{}", ran.stderr());
    assert!(node.client().blobs().unwrap().is_empty());
}

#[test]
fn without_unpacking_containerd_unpacks_when_a_container_starts() {
    for version in versions() {
        let bench = Bench::new();
        let medium = bench.medium("m", &several());
        let node = Node::start(version);
        let summary = import(0, &node, &medium, &["--no-unpack"]).json();
        assert_eq!(number(&summary, "layersUnpacked"), 0);
        assert!(node.client().list_snapshots("overlayfs").unwrap().is_empty());
        assert_starts(&node, "docker.io/library/multi:1");
        let summary = import(0, &node, &medium, &[]).json();
        assert_eq!(number(&summary, "bytesSent"), 0);
        assert!(number(&summary, "layersUnpacked") > 0);
        assert_starts(&node, "ghcr.io/team/zstd:1");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &several());
    let node = Node::start(version);
    let plan = import(0, &node, &medium, &["--dry-run"]).json();
    assert_eq!(plan["images"].as_array().unwrap().len(), 5);
    assert!(number(&plan, "bytesToSend") > 0 && number(&plan, "layersToUnpack") > 0);
    let client = node.client();
    assert!(client.blobs().unwrap().is_empty() && client.list_images().unwrap().is_empty());
    assert!(client.list_leases().unwrap().is_empty());
}

#[test]
fn the_snapshotter_of_cri_is_found_and_used() {
    for version in versions() {
        let bench = Bench::new();
        let medium = bench.medium("m", &several());
        let node = Node::start_with(version, &["snapshotter=native"]);
        import(0, &node, &medium, &[]);
        assert!(!node.client().list_snapshots("native").unwrap().is_empty());
        assert!(node.client().list_snapshots("overlayfs").unwrap().is_empty());
        assert_starts(&node, "docker.io/library/multi:1");
        let refused = import(1, &node, &medium, &["--snapshotter", "nonsense"]);
        assert!(refused.stderr().contains("native"), "{}", refused.stderr());
    }
}

#[test]
fn a_containerd_that_is_no_kubelets_is_refused_unless_it_is_meant() {
    for version in versions() {
        let bench = Bench::new();
        let medium = bench.medium("m", &several());
        let node = Node::start_with(version, &["cri=off"]);
        let refused = import(1, &node, &medium, &[]);
        assert!(refused.stderr().contains("--no-cri"), "{}", refused.stderr());
        assert!(node.client().list_images().unwrap().is_empty());
        let summary = import(0, &node, &medium, &["--no-cri"]).json();
        assert_eq!(number(&summary, "images"), 5);
        let listed = images(0, &node, &["--no-cri"]).json();
        assert_eq!(listed["images"].as_array().unwrap().len(), 5);
        let again = import(0, &node, &medium, &["--no-cri"]).json();
        assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_byte() {
    let Some(version) = versions().pop() else { return };
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(image("app:1").layer(noise("large", 1, 60_000_000))));
    let node = Node::start_with(version, &["size=40m"]);
    let ran = import(5, &node, &medium, &[]);
    assert!(ran.stderr().contains("are free"), "{}", ran.stderr());
    assert!(node.client().blobs().unwrap().is_empty());
    let plan = import(0, &node, &medium, &["--dry-run"]).json();
    let space = &plan["space"][0];
    assert!(number(space, "needed") > number(space, "free"), "{plan}");
}

#[test]
fn a_socket_that_nobody_listens_at_is_unreachable() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let medium = bench.medium("m", &layout().with(image("app:1").layer(noise("x", 1, 1000))));
    let absent = bench.path("absent.sock");
    run(6, ["import", text(&medium), "--address", text(&absent)]);
}

#[test]
fn memory_hardly_grows_with_the_number_of_images() {
    if !available("2.1") {
        return;
    }
    let bench = Bench::new();
    let node = Node::start("2.1");
    let base = tar([("base", "1")]);
    let mut peaks = Vec::new();
    for count in [20, 400] {
        let with = |set: Layout, number: usize| {
            let own = tar([(&format!("app/{number}"), "1")]);
            set.with(image(&format!("registry.local/app-{number}:1")).layer(base.clone()).layer(own))
        };
        let (from, to) = (bench.path(&format!("layout-{count}")), bench.path(&format!("m-{count}")));
        (0..count).fold(layout(), with).write_dir(&from);
        let (from, socket) = (oci(&from), node.socket());
        let export = |to: &str| {
            peak(["export", "--quiet", "--from", &from, "--all", "--platform", "linux/amd64", "--to", to])
        };
        // How many encoders are alive at the same moment is up to the scheduler, and with it up to 15 MiB: what
        // grows with the number of images does so in every run, so the least of some runs is looked at.
        let again: Vec<_> = (0..4).map(|run| bench.path(&format!("m-{count}-{run}"))).collect();
        let exports = again.iter().chain([&to]).map(|to| export(text(to))).min();
        let import = peak(["import", "--dry-run", text(&to), "--address", text(&socket)]);
        let (Some(Some(export)), Some(import)) = (exports, import) else { return };
        peaks.push([export, import]);
    }
    for (what, (few, many)) in ["export", "import"].into_iter().zip(peaks[0].into_iter().zip(peaks[1])) {
        assert!(many < few + (6 << 20), "{what}: {few} bytes with 20 images, {many} with 400");
    }
}

#[test]
fn a_set_of_more_images_than_are_planned_for_at_a_time_is_imported_as_one() {
    if versions().is_empty() {
        return;
    }
    let bench = Bench::new();
    let mut node = Node::start("2.1");
    let base = tar([("base", "1")]);
    let own = |number: usize| tar([(&format!("app/{number}"), "1")]);
    let with = |set: Layout, number: usize| {
        set.with(app(&format!("registry.local/app-{number}:1")).layer(base.clone()).layer(own(number)))
    };
    let set = (0..300).fold(layout().with(pause()), with);
    let medium = bench.medium("m", &set);
    let record = Medium::open(&medium).unwrap().record().unwrap().clone();
    let (images, layers) = (record.images.len() as u64, record.layers.len() as u64);
    let dry = import(0, &node, &medium, &["--dry-run"]).json();
    assert_eq!(dry["images"].as_array().unwrap().len() as u64, images);
    assert_eq!((number(&dry, "layersToSend"), number(&dry, "layersToUnpack")), (layers, layers));

    // The layer of an image in the second part is damaged.
    let bad = record.images[280].platforms[0].diff_ids.last().unwrap();
    let blob = record.layer(bad).unwrap().encodings[0].digest;
    let path = Medium::open(&medium).unwrap().blob_path(&blob);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, vec![b'x'; whole.len()]).unwrap();
    let ran = import(4, &node, &medium, &["--keep-going"]);
    let stdout = ran.stdout();
    let first = stdout.lines().find(|line| line.contains(r#""event":"summary""#)).unwrap();
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!((number(&first, "images"), number(&first, "layersSent")), (images - 1, layers - 1), "{first}");
    fs::write(&path, &whole).unwrap();
    let second = import(0, &node, &medium, &[]).json();
    assert_eq!((number(&second, "images"), number(&second, "layersSent")), (images, 1), "{second}");
    // By tag, and by the digests of both manifests.
    assert_eq!(number(&second, "names"), 3, "{second}");
    let again = import(0, &node, &medium, &[]).json();
    assert_eq!((number(&again, "bytesSent"), number(&again, "names")), (0, 0), "{again}");
    node.restart();
    node.client().collect_garbage().unwrap();
    for number in [0, 255, 256, 280, 299] {
        assert_starts(&node, &format!("registry.local/app-{number}:1"));
    }
}

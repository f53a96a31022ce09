//! Exports of made-up images, looked at from outside: what is written, what is left out, what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::carry::{assert_names_only_what_is_there, blobs, files, oci, run, text};
use crate::support::layout::{Layout, files as tar, image, index, layout, noise, tar_of, unnamed};
use pannier::image::Digest;
use pannier::medium::Medium;
use pannier::record::Record;

/// A directory with a layout in `layout` and room for media.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(layout: &Layout) -> Self {
        let directory = tempfile::tempdir().unwrap();
        layout.write_dir(&directory.path().join("layout"));
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Adds another layout and returns it as a source.
    fn layout(&self, name: &str, layout: &Layout) -> String {
        layout.write_dir(&self.path(name));
        oci(&self.path(name))
    }

    /// Exports everything of the layout `from` to the medium `to`, with further arguments.
    fn export(&self, status: i32, from: &str, to: &str, more: &[&str]) -> crate::support::carry::Ran {
        let (from, to) = (oci(&self.path(from)), self.path(to));
        let mut arguments = vec!["export", "--from", &from, "--all", "--to", text(&to)];
        arguments.extend(more);
        if !more.contains(&"--platform") {
            arguments.extend(["--platform", "linux/amd64"]);
        }
        run(status, arguments)
    }

    fn record(&self, medium: &str) -> Record {
        Medium::open(&self.path(medium)).unwrap().record().unwrap().clone()
    }
}

fn two_images() -> Layout {
    let base = noise("data", 1, 300_000);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(tar([("etc/app", "1")])))
        .with(image("registry.local/team/other:2").layer(base).gzip_level(1).layer(tar([("etc/other", "2")])))
}

/// The tar of a file that no compressor shrinks.
fn incompressible(size: usize) -> Vec<u8> {
    let blocks = (0..size / 32).flat_map(|at| {
        let hex = Digest::of(&at.to_le_bytes()).hex();
        (0..32).map(move |byte| u8::from_str_radix(&hex[2 * byte..][..2], 16).unwrap()).collect::<Vec<_>>()
    });
    tar_of([("noise".to_owned(), blocks.collect())])
}

fn verified(medium: &Path) {
    run(0, ["verify", "--deep", text(medium)]);
    assert_names_only_what_is_there(medium);
}

#[test]
fn a_base_that_two_tools_gzipped_differently_is_carried_once() {
    let layout = two_images();
    let bench = Bench::new(&layout);
    bench.export(0, "layout", "m", &[]);
    let record = bench.record("m");
    assert_eq!(record.layers.len(), 3);
    let base = layout.find("docker.io/library/app:1").manifests[0].diff_ids[0];
    let base = record.layer(&base).unwrap();
    assert_eq!((base.encodings.len(), base.originals.len()), (1, 2));
    assert!(base.encodings[0].media_type.ends_with("+zstd"));
    verified(&bench.path("m"));
}

#[test]
fn the_original_documents_are_on_the_medium_byte_for_byte() {
    let layout = two_images();
    let bench = Bench::new(&layout);
    bench.export(0, "layout", "m", &[]);
    for stored in layout.stored() {
        for descriptor in [&stored.descriptor, &stored.manifests[0].config] {
            let bytes = fs::read(bench.path("m").join("blobs/sha256").join(descriptor.digest.hex())).unwrap();
            assert_eq!(Digest::of(&bytes), descriptor.digest);
        }
    }
}

#[test]
fn a_second_export_of_an_unchanged_set_writes_nothing() {
    let bench = Bench::new(&two_images());
    bench.export(0, "layout", "m", &[]);
    let before = files(&bench.path("m"));
    let second = bench.export(0, "layout", "m", &["--json"]).json();
    assert_eq!((second["changed"].as_bool(), second["bytesWritten"].as_u64()), (Some(false), Some(0)));
    assert_eq!(files(&bench.path("m")), before);
}

#[test]
fn two_exports_of_one_set_to_two_empty_media_give_the_same_blobs() {
    let bench = Bench::new(&two_images());
    bench.export(0, "layout", "m1", &[]);
    bench.export(0, "layout", "m2", &[]);
    assert_eq!(blobs(&bench.path("m1")), blobs(&bench.path("m2")));
    assert_ne!(bench.record("m1").medium, bench.record("m2").medium);
}

#[test]
fn only_what_is_new_is_written_later_and_a_name_moves() {
    let bench = Bench::new(&two_images());
    bench.export(0, "layout", "m", &[]);
    let newer =
        image("docker.io/library/app:1").layer(noise("data", 1, 300_000)).layer(tar([("etc/app", "2")]));
    bench.layout("newer", &layout().with(newer));
    let second = bench.export(0, "newer", "m", &["--json"]).json();
    assert_eq!(second["layersWritten"].as_u64(), Some(1));
    assert_eq!(second["layersReused"].as_u64(), Some(1));
    let record = bench.record("m");
    assert_eq!((record.sequence, record.images.len()), (2, 2));
    verified(&bench.path("m"));
}

#[test]
fn a_platform_that_is_exported_later_extends_the_image() {
    let both = index("docker.io/library/app:1")
        .with(unnamed().layer(tar([("a", "amd64")])))
        .with(unnamed().platform("linux/arm64").layer(tar([("a", "arm64")])))
        .attested();
    let bench = Bench::new(&layout().with(both));
    bench.export(0, "layout", "m", &[]);
    assert_eq!(bench.record("m").images[0].platforms.len(), 1);
    bench.export(0, "layout", "m", &["--platform", "linux/arm64"]);
    let record = bench.record("m");
    assert_eq!(record.images[0].platforms.len(), 2);
    verified(&bench.path("m"));
    // In one go it is the same, commit records aside.
    bench.export(0, "layout", "all", &["--platform", "all"]);
    assert_eq!(bench.record("all").images[0].carried, record.images[0].carried);
}

#[test]
fn a_platform_that_is_asked_for_and_absent_is_named() {
    let partial = index("docker.io/library/app:1")
        .with(unnamed().layer(tar([("a", "amd64")])))
        .with(unnamed().platform("linux/arm64").layer(tar([("a", "arm64")])).absent());
    let bench = Bench::new(&layout().with(partial));
    let ran = bench.export(1, "layout", "m", &["--platform", "linux/arm64"]);
    assert!(ran.stderr().contains("linux/arm64") && ran.stderr().contains("not held"), "{}", ran.stderr());
    // What is there is carried, and all means all that is held.
    bench.export(0, "layout", "m", &[]);
    bench.export(0, "layout", "m2", &["--platform", "all"]);
    assert_eq!(bench.record("m2").images[0].platforms.len(), 1);
}

#[test]
fn a_layer_that_does_not_shrink_stays_as_it_was() {
    let noise = image("docker.io/library/noise:1").layer(incompressible(200_000));
    let bench = Bench::new(&layout().with(noise));
    bench.export(0, "layout", "m", &[]);
    let layer = &bench.record("m").layers[0];
    assert_eq!(layer.encodings[0].digest, layer.originals[0].digest);
    assert!(layer.encodings[0].media_type.ends_with("+gzip"));
    verified(&bench.path("m"));
}

#[test]
fn with_no_compression_every_original_stays_and_the_manifest_with_it() {
    let layout = two_images();
    let bench = Bench::new(&layout);
    bench.export(0, "layout", "m", &["--compression", "none"]);
    let record = bench.record("m");
    for image in &record.images {
        assert_eq!(image.carried, image.original);
    }
    for stored in layout.stored() {
        for layer in &stored.manifests[0].layers {
            assert!(bench.path("m").join("blobs/sha256").join(layer.digest.hex()).exists());
        }
    }
    verified(&bench.path("m"));
}

#[test]
fn an_original_zstd_layer_is_carried_as_it_is() {
    let zstd = image("docker.io/library/z:1").layer(noise("data", 3, 100_000)).zstd();
    let layout = layout().with(zstd);
    let bench = Bench::new(&layout);
    bench.export(0, "layout", "m", &[]);
    assert_eq!(bench.record("m").images[0].carried.digest, layout.stored()[0].descriptor.digest);
}

#[test]
fn docker_types_become_oci_and_the_image_id_stays() {
    let docker = image("docker.io/library/d:1").docker().layer(tar([("a", "b")]));
    let layout = layout().with(docker);
    let bench = Bench::new(&layout);
    bench.export(0, "layout", "m", &[]);
    let record = bench.record("m");
    let platform = &record.images[0].platforms[0];
    assert_eq!(platform.config.digest, layout.stored()[0].manifests[0].config.digest);
    let carried =
        fs::read_to_string(bench.path("m").join("blobs/sha256").join(platform.carried.digest.hex()));
    assert!(!carried.unwrap().contains("vnd.docker"));
    verified(&bench.path("m"));
}

#[test]
fn a_source_that_lies_is_named_and_nothing_of_the_image_is_committed() {
    let lies: [(&str, crate::support::layout::Image); 4] = [
        ("flipped", image("docker.io/library/bad:1").layer(noise("data", 5, 50_000)).flipped()),
        ("truncated", image("docker.io/library/bad:1").layer(noise("data", 5, 50_000)).truncated()),
        ("grown", image("docker.io/library/bad:1").layer(noise("data", 5, 50_000)).grown()),
        ("lying-diff-id", image("docker.io/library/bad:1").layer(noise("data", 5, 50_000)).lying_diff_id()),
    ];
    for (lie, bad) in lies {
        let good = image("docker.io/library/good:1").layer(tar([("ok", "1")]));
        let bench = Bench::new(&layout().with(bad).with(good));
        let ran = bench.export(4, "layout", "m", &[]);
        assert!(
            ran.stderr().contains("source:") && ran.stderr().contains("sha256:"),
            "{lie}: {}",
            ran.stderr()
        );
        assert!(Medium::open(&bench.path("m")).unwrap().record().is_none(), "{lie}");
        let ran = bench.export(4, "layout", "m", &["--keep-going"]);
        assert!(ran.stderr().contains("docker.io/library/bad:1"), "{lie}: {}", ran.stderr());
        let record = bench.record("m");
        let names: Vec<String> = record.images[0].names.iter().map(ToString::to_string).collect();
        assert_eq!((record.images.len(), names), (1, vec!["docker.io/library/good:1".to_owned()]), "{lie}");
        verified(&bench.path("m"));
    }
}

#[test]
fn what_is_absent_or_cannot_be_checked_is_refused_before_the_first_byte() {
    let bad = [
        image("docker.io/library/bad:1").layer(noise("data", 5, 5_000)).missing(),
        image("docker.io/library/bad:1")
            .layer(noise("data", 5, 5_000))
            .foreign("http://example.invalid/layer"),
        image("docker.io/library/bad:1")
            .layer(noise("data", 5, 5_000))
            .labelled("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
    ];
    for bad in bad {
        let bench = Bench::new(&layout().with(bad));
        bench.export(1, "layout", "m", &[]);
        assert!(!bench.path("m").exists());
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let bench = Bench::new(&two_images());
    let plan = bench.export(0, "layout", "m", &["--dry-run", "--json"]).json();
    assert!(!bench.path("m").exists());
    assert_eq!(plan["layers"].as_array().unwrap().len(), 3);
    assert!(plan["bytesToWrite"].as_u64().unwrap() >= plan["bytesToRead"].as_u64().unwrap());
    bench.export(0, "layout", "m", &[]);
    let plan = bench.export(0, "layout", "m", &["--dry-run", "--json"]).json();
    assert_eq!(plan["bytesToWrite"].as_u64(), Some(0));
    assert_eq!(plan["images"][0]["verdict"], "unchanged");
}

#[test]
fn a_medium_is_a_source_from_which_nothing_is_recompressed() {
    let bench = Bench::new(&two_images());
    bench.export(0, "layout", "m1", &["--compression", "zstd:3"]);
    let from = format!("medium:{}", bench.path("m1").display());
    run(
        0,
        ["export", "--from", &from, "--all", "--to", text(&bench.path("m2")), "--platform", "linux/amd64"],
    );
    assert_eq!(blobs(&bench.path("m1")), blobs(&bench.path("m2")));
    verified(&bench.path("m2"));
}

// fault-matrix: rows 74
#[test]
fn entries_of_other_tools_stay() {
    let bench = Bench::new(&two_images());
    // The layout of another tool becomes the medium.
    let theirs = layout().with(image("example.com/theirs:1").layer(tar([("t", "1")])));
    theirs.write_dir(&bench.path("m"));
    bench.export(0, "layout", "m", &[]);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.path("m/index.json")).unwrap()).unwrap();
    let theirs = theirs.stored()[0].descriptor.digest.to_string();
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries.iter().any(|entry| entry["digest"] == theirs.as_str()));
    verified(&bench.path("m"));
    assert_eq!(bench.record("m").images.len(), 2);
}

#[test]
fn an_image_without_a_full_name_needs_one() {
    let bare = unnamed().ref_name("v1").layer(tar([("a", "b")]));
    let bench = Bench::new(&layout().with(bare));
    let ran = bench.export(1, "layout", "m", &[]);
    assert!(ran.stderr().contains("--as"), "{}", ran.stderr());
    bench.export(0, "layout", "m", &["--as", "registry.local/named:1"]);
    let record = bench.record("m");
    assert!(record.images[0].names.contains(&"registry.local/named:1".parse().unwrap()));
}

#[test]
fn a_name_is_given_to_the_one_image_that_is_there_and_never_dropped_silently() {
    let one = layout().with(image("docker.io/library/app:1").also("app:2").layer(tar([("a", "b")])));
    let bench = Bench::new(&one);
    let (from, to) = (oci(&bench.path("layout")), bench.path("m"));
    let to = text(&to);
    let amd64 = ["--platform", "linux/amd64"];
    let export = |status: i32, from: &str, more: &[&str]| {
        let common = ["export", "--from", from, "--as", "registry.local/named:1", "--to", to];
        run(status, common.iter().chain(&amd64).chain(more).copied())
    };
    assert!(export(2, &from, &["--all"]).stderr().contains("--rename"));
    export(0, &from, &[]);
    let record = bench.record("m");
    assert_eq!(record.images.len(), 1);
    assert_eq!(record.images[0].names, ["registry.local/named:1".parse().unwrap()].into());
    let several = bench.layout("several", &two_images());
    assert!(export(1, &several, &[]).stderr().contains("2 images"));
    export(2, "registry", &[]);
    assert_eq!(bench.record("m"), record);
}

#[test]
fn a_registry_is_renamed_on_the_way() {
    let bench = Bench::new(&two_images());
    bench.export(0, "layout", "m", &["--rename", "docker.io/library=mirror.local:5000/base"]);
    let names: Vec<String> =
        bench.record("m").images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect();
    assert_eq!(names, ["mirror.local:5000/base/app:1", "registry.local/team/other:2"]);
}

#[test]
fn names_are_found_in_every_form_and_lists_are_read() {
    let layout = two_images();
    let bench = Bench::new(&layout);
    let digest = layout.find("registry.local/team/other:2").descriptor.digest;
    let list = bench.path("images.txt");
    fs::write(&list, format!("# the set\n\napp:1\r\nregistry.local/team/other@{digest}\n")).unwrap();
    let (from, to) = (oci(&bench.path("layout")), bench.path("m"));
    let arguments =
        ["export", "--from", &from, "--list", text(&list), "--to", text(&to), "--platform", "linux/amd64"];
    run(0, arguments);
    let names: Vec<String> =
        bench.record("m").images.iter().flat_map(|image| &image.names).map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/app:1".to_owned(), format!("registry.local/team/other@{digest}")]);
    let ran = run(1, ["export", "--from", &from, "absent:1", "--to", text(&to), "--platform", "linux/amd64"]);
    assert!(ran.stderr().contains("docker.io/library/absent:1") && ran.stderr().contains("app:1"));
}

// fault-matrix: rows 53
#[test]
fn two_exports_to_one_medium_do_not_meet() {
    let bench = Bench::new(&two_images());
    let mut medium = Medium::create(&bench.path("m")).unwrap();
    let lock = medium.lock().unwrap();
    let ran = bench.export(1, "layout", "m", &[]);
    assert!(ran.stderr().contains("in use"), "{}", ran.stderr());
    drop(lock);
    bench.export(0, "layout", "m", &[]);
}

#[test]
fn a_medium_that_is_too_small_is_refused_with_figures() {
    if !crate::support::root("a filesystem of 1 MiB is mounted") {
        return;
    }
    let bench =
        Bench::new(&layout().with(image("docker.io/library/big:1").layer(noise("data", 9, 6_000_000))));
    let small = bench.path("small");
    fs::create_dir(&small).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=1m", "none", text(&small)];
    assert!(std::process::Command::new("mount").args(mount).status().unwrap().success());
    let ran = bench.export(5, "layout", "small/m", &[]);
    let written = files(&small);
    assert!(std::process::Command::new("umount").arg(&small).status().unwrap().success());
    assert!(ran.stderr().contains("needs") && ran.stderr().contains("free"), "{}", ran.stderr());
    assert!(written.keys().all(|path| !path.starts_with("m/blobs/sha256")), "{written:?}");
}

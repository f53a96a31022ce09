//! Layouts and archives as sources: one set of images in every form reads the same, and forms that
//! could mislead are refused with a reason.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::carry::{pannier, text};
use crate::support::docker::Form;
use crate::support::image::{Encoding, half_random};
use crate::support::layout::{Layout, blob_path, files, image, index, layout, noise, to_bytes, unnamed};
use crate::support::seen::{Seen, all, message, open};
use crate::support::tarball::Tarball;
use pannier::Error;
use pannier::image::{Descriptor, Digest};
use pannier::source::everything;
use tar::EntryType;

struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The error that opening these bytes as an archive of this kind gives.
    fn refused(&self, kind: &str, bytes: &[u8]) -> String {
        let path = self.file("refused.tar", bytes);
        match open(kind, &path) {
            Err(error) => message(&error),
            Ok(_) => panic!("it was opened"),
        }
    }
}

const ENCODINGS: [Encoding; 5] =
    [Encoding::Plain, Encoding::Gzip(6, 1), Encoding::Gzip(6, 3), Encoding::Zstd(3, 1), Encoding::Zstd(3, 3)];

/// Two images that share a layer, plain as Docker's own archives have them.
fn pair() -> Layout {
    let base = noise("usr/lib/base", 1, 100_000);
    layout()
        .with(
            image("docker.io/library/app:1")
                .layer(base.clone())
                .plain()
                .layer(files([("etc/app", "1")]))
                .plain(),
        )
        .with(
            image("quay.io/team/web:2")
                .also("quay.io/team/web:latest")
                .layer(base)
                .plain()
                .layer(files([("etc/web", "2")]))
                .plain(),
        )
}

fn expected(layout: &Layout) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    for stored in layout.stored() {
        let manifest = &stored.manifests[0];
        let seen = |name: Option<&String>| Seen {
            name: name.cloned(),
            config: manifest.config.digest,
            diff_ids: manifest.diff_ids.clone(),
        };
        match stored.names.as_slice() {
            [] => all.push(seen(None)),
            names => all.extend(names.iter().map(|name| seen(Some(name)))),
        }
    }
    all.sort();
    all
}

#[test]
fn one_set_of_images_reads_the_same_in_every_form() {
    let room = Room::new();
    let pair = pair();
    let expected = expected(&pair);
    pair.write_dir(&room.path("dir"));
    assert_eq!(all(&*open("oci", &room.path("dir")).unwrap()).unwrap(), expected);
    let forms = [Form::Docker, Form::Podman, Form::DockerAndOci, Form::Compressed];
    for encoding in ENCODINGS {
        let path = room.file("oci.tar", &encoding.apply(&pair.oci_archive()));
        assert_eq!(all(&*open("oci-archive", &path).unwrap()).unwrap(), expected, "{encoding:?}");
        for form in forms {
            let path = room.file("docker.tar", &encoding.apply(&pair.docker_archive(form)));
            let source = open("docker-archive", &path).unwrap();
            assert_eq!(all(&*source).unwrap(), expected, "{form:?} {encoding:?}");
        }
    }
}

#[test]
fn a_manifest_made_for_an_old_docker_archive_is_always_the_same() {
    let room = Room::new();
    let path = room.file("docker.tar", &pair().docker_archive(Form::Docker));
    let descriptors = || -> Vec<Descriptor> {
        let source = open("docker-archive", &path).unwrap();
        source.list().unwrap().into_iter().map(|listed| listed.descriptor).collect()
    };
    assert_eq!(descriptors(), descriptors());
    // Docker's and podman's archives of the same image differ, their contents do not.
    let podman = room.file("podman.tar", &pair().docker_archive(Form::Podman));
    let listed = open("docker-archive", &podman).unwrap().list().unwrap();
    assert_eq!(listed.into_iter().map(|l| l.descriptor).collect::<Vec<_>>(), descriptors());
}

#[test]
fn compressed_layers_in_a_docker_archive_are_listed_as_what_they_are() {
    let room = Room::new();
    let set = layout().with(
        image("app:1")
            .layer(noise("a", 1, 5000))
            .gzip()
            .layer(noise("b", 2, 5000))
            .zstd()
            .layer(noise("c", 3, 9)),
    );
    let path = room.file("docker.tar", &set.docker_archive(Form::Compressed));
    let source = open("docker-archive", &path).unwrap();
    let seen = all(&*source).unwrap();
    assert_eq!(seen[0].diff_ids, set.stored()[0].manifests[0].diff_ids);
    // The made-up manifest is the one that a pure OCI layout of the same blobs would have.
    let descriptor = &source.list().unwrap()[0].descriptor;
    let bytes = pannier::source::read(&*source, &"app:1".parse().unwrap(), descriptor, 1 << 20).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(manifest["layers"], serde_json::json!(set.stored()[0].manifests[0].layers));
}

#[test]
fn a_new_docker_archive_is_read_by_its_oci_side() {
    let room = Room::new();
    // Names that index.json lacks come from manifest.json, and the manifest is the true one.
    let set = layout().with(image("app:1").docker().layer(files([("a", "1")])));
    let truth = set.stored()[0].descriptor.clone();
    let listed = |bytes: &[u8]| open("docker-archive", &room.file("d.tar", bytes)).unwrap().list().unwrap();
    let whole = set.docker_tarball(Form::DockerAndOci).finish();
    assert_eq!(listed(&whole)[0].descriptor, truth);

    let bare = layout().with(image("app:1").docker().layer(files([("a", "1")])).ref_name("1"));
    let config = bare.stored()[0].manifests[0].config.digest;
    let saved = serde_json::json!([{ "Config": blob_path(config), "RepoTags": ["app:1", "<none>:<none>"],
        "Layers": [blob_path(bare.stored()[0].manifests[0].layers[0].digest)] }]);
    let mut archive = Tarball::default();
    for (path, bytes) in bare.files() {
        archive = archive.file(&path, &bytes);
    }
    let named = listed(&archive.clone().file("manifest.json", &to_bytes(&saved)).finish());
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].name.as_ref().unwrap().to_string(), "docker.io/library/app:1");
    assert_eq!(named[0].descriptor, truth);
}

#[test]
fn an_oci_side_that_lacks_an_image_is_not_believed() {
    let room = Room::new();
    let set = pair();
    let manifest = set.find("quay.io/team/web:2").descriptor.digest;
    let path = room.file("d.tar", &set.without(manifest).docker_archive(Form::DockerAndOci));
    assert_eq!(all(&*open("docker-archive", &path).unwrap()).unwrap(), expected(&pair()));
}

#[test]
fn what_has_no_full_name_is_listed_without_one() {
    let room = Room::new();
    let tagged = layout().with(unnamed().layer(files([("a", "1")])).ref_name("v1"));
    tagged.write_dir(&room.path("bare"));
    let source = open("oci", &room.path("bare")).unwrap();
    assert_eq!(source.list().unwrap()[0].name, None);
    let error = source.resolve(&"v1".parse().unwrap()).unwrap_err();
    assert!(message(&error).contains("--as"), "{error}");
    let by_digest = format!("any/name@{}", tagged.stored()[0].descriptor.digest).parse().unwrap();
    assert_eq!(source.resolve(&by_digest).unwrap(), tagged.stored()[0].descriptor);

    let path = room.file("d.tar", &tagged.docker_archive(Form::Docker));
    assert_eq!(open("docker-archive", &path).unwrap().list().unwrap()[0].name, None);
}

#[test]
fn an_index_in_an_index_is_listed_as_it_is() {
    let room = Room::new();
    let inner = index("docker.io/library/multi:1")
        .with(unnamed().platform("linux/arm64").layer(files([("a", "arm")])).absent())
        .with(unnamed().layer(files([("a", "amd")])))
        .attested();
    let set = layout().with(inner);
    set.write_dir(&room.path("dir"));
    let source = open("oci", &room.path("dir")).unwrap();
    assert_eq!(source.list().unwrap()[0].descriptor, set.stored()[0].descriptor);
    assert_eq!(all(&*source).unwrap()[0].diff_ids, set.stored()[0].manifests[1].diff_ids);
}

#[test]
fn one_name_for_two_images_is_refused() {
    let room = Room::new();
    let twice = layout()
        .with(image("app:1").layer(files([("a", "1")])).plain())
        .with(image("app:1").layer(files([("a", "2")])).plain());
    let reason = "docker.io/library/app:1 is the name of two images";
    // Only to who asks for it.
    let archive = room.file("twice.tar", &twice.oci_archive());
    let source = open("oci-archive", &archive).unwrap();
    let asked = source.resolve(&"app:1".parse().unwrap()).unwrap_err().to_string();
    assert!(asked.contains(reason), "{asked}");
    assert!(everything(&*source, None).unwrap_err().to_string().contains(reason));
    for form in [Form::Docker, Form::Podman] {
        assert!(room.refused("docker-archive", &twice.docker_archive(form)).contains(reason), "{form:?}");
    }
}

#[test]
fn whoever_gives_the_wrong_kind_is_told_the_right_one() {
    let room = Room::new();
    let set = pair();
    let oci = room.file("oci.tar", &set.oci_archive());
    let docker = room.file("docker.tar", &set.docker_archive(Form::Podman));
    set.write_dir(&room.path("dir"));
    for (kind, path, right) in [
        ("oci-archive", &docker, "docker-archive:"),
        ("docker-archive", &oci, "oci-archive:"),
        ("oci", &oci, "oci-archive:"),
        ("oci-archive", &room.path("dir"), "oci:"),
        ("docker-archive", &room.path("dir"), "oci:"),
    ] {
        let error = open(kind, path).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Usage(_)), "{error}");
        assert!(error.to_string().contains(&format!("{right}{}", path.display())), "{kind}: {error}");
    }
    let reference = PathBuf::from(format!("{}:app:1", docker.display()));
    let error = open("docker-archive", &reference).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("arguments of their own"), "{error}");
    let error = open("oci", &room.path("nowhere")).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let other = room.file("other.tar", &Tarball::default().file("a", b"1").finish());
    for (kind, file) in [("oci-archive", "oci-layout"), ("docker-archive", "manifest.json")] {
        let error = open(kind, &other).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn damaged_content_is_found_when_it_is_read() {
    let room = Room::new();
    let layers = || image("app:1").layer(noise("a", 1, 5000)).plain();
    for (what, broken) in [
        ("flipped", layout().with(layers().flipped())),
        ("truncated", layout().with(layers().truncated())),
        ("grown", layout().with(layers().grown())),
        ("lying", layout().with(layers().lying_diff_id())),
        ("missing", layout().with(layers().missing())),
    ] {
        let docker = room.file("d.tar", &broken.docker_archive(Form::Docker));
        let error = all(&*open("docker-archive", &docker).unwrap()).unwrap_err();
        let right = match what {
            "missing" => matches!(error, Error::NotFound { .. }),
            _ => matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. }),
        };
        assert!(right, "{what}: {}", message(&error));
        if what == "lying" || what == "missing" {
            continue;
        }
        let oci = room.file("o.tar", &broken.oci_archive());
        let error = all(&*open("oci-archive", &oci).unwrap()).unwrap_err();
        assert!(
            matches!(error, Error::DigestMismatch { .. } | Error::SizeMismatch { .. }),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_config_that_is_not_its_name_or_does_not_fit_its_layers_is_refused() {
    let room = Room::new();
    let set = layout().with(image("app:1").layer(files([("a", "1")])).plain());
    let config = &set.blobs[&set.stored()[0].manifests[0].config.digest];
    let archive = |config: &[u8], name: &str, layers: &[&str]| {
        let saved = serde_json::json!([{ "Config": name, "RepoTags": ["app:1"], "Layers": layers }]);
        Tarball::default()
            .file(name, config)
            .file("l.tar", &files([("a", "1")]))
            .file("manifest.json", &to_bytes(&saved))
            .finish()
    };
    let list = |bytes: &[u8]| open("docker-archive", &room.file("d.tar", bytes)).unwrap().list();
    assert!(list(&archive(config, "config.json", &["l.tar"])).is_ok());
    let other = format!("{}.json", Digest::of(b"other").hex());
    for name in [other.as_str(), &format!("sha256:{}", Digest::of(b"other").hex())] {
        let error = list(&archive(config, name, &["l.tar"])).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    }
    for layers in [&[][..], &["l.tar", "l.tar"]] {
        let error = list(&archive(config, "config.json", layers)).unwrap_err();
        assert!(error.to_string().contains("diff_ids"), "{error}");
    }
    assert!(matches!(list(&archive(config, "config.json", &["m.tar"])), Err(Error::NotFound { .. })));
    assert!(matches!(list(&archive(b"{}", "config.json", &["l.tar"])), Err(Error::Invalid { .. })));
}

#[test]
fn names_that_leave_the_archive_and_things_that_are_no_files_are_refused() {
    let room = Room::new();
    let good = || pair().docker_tarball(Form::Docker);
    for (bad, reason) in [
        (good().file("../evil", b""), ".."),
        (good().file("a/../../evil", b""), ".."),
        (good().file("/etc/passwd", b""), "absolute"),
        (good().symlink("x", "/etc/passwd"), "leads out"),
        (good().symlink("a/x", "../../etc/passwd"), "leads out"),
        (good().hard_link("x", "/etc/passwd"), "absolute"),
        (good().hard_link("x", "../x"), ".."),
        (good().special("x", EntryType::Fifo), "fifo"),
        (good().special("x", EntryType::Char), "device"),
        (good().special("x", EntryType::Block), "device"),
        (good().special("x", EntryType::GNUSparse), "sparse"),
        (good().special("x", EntryType::new(b'V')), "unknown kind"),
        (good().file("x", b"1").file("./x", b"2"), "twice"),
        (good().file("x", b"1").symlink("x", "manifest.json"), "twice"),
        (good().file(&"n".repeat(5000), b""), "longer than 4096"),
        (good().file("", b""), "without a name"),
        (good().raw(&[b'x'; 512]), "no entry begins"),
        (good().lying("x", b"", u64::from(u32::MAX)), "cut short"),
    ] {
        let message = room.refused("docker-archive", &bad.finish());
        assert!(message.contains(reason), "{reason}: {message}");
        assert!(message.starts_with("source: "), "{message}");
    }
}

#[test]
fn pax_headers_name_measure_and_refuse() {
    let record = |key: &str, value: &str| {
        let body = format!(" {key}={value}\n");
        let length = body.len() + (body.len() + 2).to_string().len();
        format!("{length}{body}").into_bytes()
    };
    let extended = |records: &[u8]| {
        let header = Tarball::default().entry_of(EntryType::XHeader, "PaxHeaders/x", records);
        // A header that names and measures the entry wrongly; the pax header is right.
        header.lying("wrong", &files([("a", "1")]), 0)
    };
    let room = Room::new();
    let set = layout().with(image("app:1").layer(files([("a", "1")])).plain());
    let config = &set.blobs[&set.stored()[0].manifests[0].config.digest];
    let saved = serde_json::json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["layer.tar"] }]);
    let size = files([("a", "1")]).len();
    let records = [record("path", "layer.tar"), record("size", &size.to_string())].concat();
    let good = extended(&records).file("c.json", config).file("manifest.json", &to_bytes(&saved)).finish();
    let path = room.file("d.tar", &good);
    assert_eq!(
        all(&*open("docker-archive", &path).unwrap()).unwrap()[0].diff_ids,
        set.stored()[0].manifests[0].diff_ids
    );
    for (records, reason) in [
        (record("GNU.sparse.major", "1"), "sparse"),
        (record("path", "/etc/passwd"), "absolute"),
        (record("size", "-1"), "not a number"),
        (record("size", "18446744073709551615"), "cut short"),
        (vec![b'x'; 70_000], "more than the 65536"),
    ] {
        let message = room.refused("docker-archive", &extended(&records).finish());
        assert!(message.contains(reason), "{reason}: {message}");
    }
    let global =
        Tarball::default().entry_of(EntryType::XGlobalHeader, "g", &record("path", "x")).file("a", b"");
    assert!(room.refused("docker-archive", &global.finish()).contains("global"));
}

#[test]
fn links_that_go_round_lead_nowhere() {
    let room = Room::new();
    let saved = serde_json::json!([{ "Config": "a", "RepoTags": ["app:1"], "Layers": [] }]);
    let archive = Tarball::default()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("manifest.json", &to_bytes(&saved))
        .finish();
    let source = open("docker-archive", &room.file("d.tar", &archive)).unwrap();
    assert!(matches!(source.list(), Err(Error::NotFound { .. })));
}

#[test]
fn what_is_no_archive_or_is_cut_short_is_refused() {
    let room = Room::new();
    assert!(room.refused("oci-archive", b"").contains("empty"));
    assert!(room.refused("oci-archive", b"hello").contains("neither a tar"));
    assert!(room.refused("oci-archive", &half_random(1, 5000)).contains("neither a tar"));
    let whole = pair().oci_archive();
    assert!(room.refused("oci-archive", &whole[..whole.len() / 2]).contains("cut short"));
    for encoding in [Encoding::Gzip(6, 1), Encoding::Zstd(3, 1)] {
        let packed = encoding.apply(&whole);
        for cut in [packed.len() - 1, packed.len() / 2, 20] {
            let message = room.refused("oci-archive", &packed[..cut]);
            assert!(message.contains("cannot decompress"), "{encoding:?} {cut}: {message}");
        }
        let mut flipped = packed.clone();
        flipped[packed.len() / 2] ^= 1;
        // zstd may have no checksum of its own; then the blob's digest finds it.
        let path = room.file("flipped.tar", &flipped);
        assert!(open("oci-archive", &path).and_then(|source| all(&*source)).is_err(), "{encoding:?}");
    }
}

#[test]
fn every_cut_of_a_small_archive_is_refused_or_read_right() {
    let room = Room::new();
    let set = layout().with(image("docker.io/library/app:1").layer(files([("a", "1")])).plain());
    let whole = set.docker_archive(Form::Docker);
    for cut in (0..whole.len()).step_by(257).chain([whole.len()]) {
        let path = room.file("cut.tar", &whole[..cut]);
        // Without its last zeros an archive is still whole.
        if let Ok(seen) = open("docker-archive", &path).and_then(|source| all(&*source)) {
            assert_eq!(seen, expected(&set), "cut at {cut} of {}", whole.len());
        }
    }
}

#[test]
fn layouts_are_read_strictly() {
    let room = Room::new();
    let set = layout().with(image("app:1").layer(files([("a", "1")])));
    let broken = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir_in(room.0.path()).unwrap();
        set.write_dir(dir.path());
        change(dir.path());
        let result = open("oci", dir.path()).and_then(|source| all(&*source));
        message(&result.expect_err("an error"))
    };
    let blobs = |dir: &Path| dir.join(blob_path(set.stored()[0].descriptor.digest));
    for (change, reason) in [
        ((&|dir: &Path| fs::remove_file(dir.join("oci-layout")).unwrap()) as &dyn Fn(&Path), "no OCI layout"),
        (&|dir| fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap(), "2.0.0"),
        (&|dir| fs::write(dir.join("oci-layout"), "x").unwrap(), "not a layout file"),
        (&|dir| fs::remove_file(dir.join("index.json")).unwrap(), "no OCI layout"),
        (&|dir| fs::write(dir.join("index.json"), "[").unwrap(), "not an index"),
        (&|dir| fs::write(dir.join("index.json"), vec![b' '; (4 << 20) + 1]).unwrap(), "longer than"),
        (&|dir| fs::write(dir.join("index.json"), "[".repeat(100_000)).unwrap(), "not an index"),
        (
            &|dir| {
                let text = r#"{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
                    "digest":"sha256:../../../etc/shadow","size":1}]}"#;
                fs::write(dir.join("index.json"), text).unwrap();
            },
            "not a digest",
        ),
        (
            &|dir| {
                fs::rename(blobs(dir), dir.join("elsewhere")).unwrap();
                symlink(dir.join("elsewhere"), blobs(dir)).unwrap();
            },
            "symbolic link",
        ),
        (
            &|dir| {
                fs::rename(dir.join("blobs"), dir.join("elsewhere")).unwrap();
                symlink("elsewhere", dir.join("blobs")).unwrap();
            },
            "symbolic link",
        ),
        (
            &|dir| {
                fs::remove_file(blobs(dir)).unwrap();
                fs::create_dir(blobs(dir)).unwrap();
            },
            "not a regular file",
        ),
        (
            &|dir| {
                fs::remove_file(blobs(dir)).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, blobs(dir), rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            },
            "not a regular file",
        ),
    ] {
        let message = broken(change);
        assert!(message.contains(reason), "{reason}: {message}");
    }
}

#[test]
fn a_fifo_is_not_waited_for() {
    let room = Room::new();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let fifo = room.path("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for kind in ["oci-archive", "docker-archive"] {
        let error = open(kind, &fifo).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}

#[test]
fn blobs_are_read_from_any_offset_and_by_several_threads() {
    let room = Room::new();
    let set = pair();
    set.write_dir(&room.path("dir"));
    let oci = room.file("oci.tar.gz", &Encoding::Gzip(1, 1).apply(&set.oci_archive()));
    let docker = room.file("docker.tar", &set.docker_archive(Form::Docker));
    let name = "quay.io/team/web:2".parse().unwrap();
    for (kind, path) in [("oci", room.path("dir")), ("oci-archive", oci), ("docker-archive", docker)] {
        let source = open(kind, &path).unwrap();
        source.resolve(&name).unwrap();
        let layers = &set.find("quay.io/team/web:2").manifests[0].layers;
        std::thread::scope(|scope| {
            for layer in layers {
                for offset in [0, 1, 511, layer.size - 1, layer.size, layer.size + 1] {
                    let (source, name) = (&source, &name);
                    let rest = &set.blobs[&layer.digest][offset.min(layer.size) as usize..];
                    scope.spawn(move || {
                        let mut bytes = Vec::new();
                        let mut reader = source.open_unverified(name, layer, offset).unwrap();
                        reader.read_to_end(&mut bytes).unwrap();
                        assert!(bytes == rest, "{kind} {} from {offset}", layer.digest);
                    });
                }
            }
        });
    }
}

#[test]
fn no_room_for_a_compressed_archive_is_said_with_the_variable_to_set() {
    if !crate::support::root("a full TMPDIR is not tried") {
        return;
    }
    let room = Room::new();
    let set = layout().with(image("app:1").layer(files([("a", "a".repeat(3_000_000).as_str())])).plain());
    // The last member's length is what gzip tells beforehand: one is refused unread, one runs full.
    for members in [1, 3] {
        let path = room.file("a.tar.gz", &Encoding::Gzip(1, members).apply(&set.oci_archive()));
        let script = "mount -t tmpfs -o size=2m tmpfs \"$TMPDIR\" && exec \"$@\"";
        let program = pannier([]).get_program().to_owned();
        fs::create_dir_all(room.path("tmp")).unwrap();
        let output = std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(program)
            .args(["export", "--all", "--from", &format!("oci-archive:{}", path.display())])
            .args(["--to", text(&room.path("medium"))])
            .env("TMPDIR", room.path("tmp"))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("TMPDIR") && stderr.contains("source:"), "{stderr}");
        assert_eq!(stderr.contains("are free"), members == 1, "{stderr}");
        assert!(!room.path("medium").exists());
    }
}

#[test]
fn no_flipped_bit_of_an_archive_gives_another_image() {
    let room = Room::new();
    let set = layout().with(image("docker.io/library/app:1").layer(files([("a", "1")])).plain());
    let truth = &expected(&set)[0];
    for (kind, whole) in
        [("docker-archive", set.docker_archive(Form::Podman)), ("oci-archive", set.oci_archive())]
    {
        let mut refused = 0;
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let path = room.file("flipped.tar", &bytes);
            match open(kind, &path).and_then(|source| all(&*source)) {
                // Padding, and names, which nothing vouches for; never the content under them.
                Ok(images) => assert!(
                    images.iter().all(|seen| seen.config == truth.config && seen.diff_ids == truth.diff_ids),
                    "{kind}, byte {at}: {images:?}"
                ),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 150, "{kind}: {refused} of {}", whole.len());
    }
}

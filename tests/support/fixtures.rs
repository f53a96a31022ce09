//! The small layouts and archives in `fixtures/`: what each is, and what an export of it comes to.

use std::collections::BTreeMap;

use tar::EntryType;

use super::docker::Form;
use super::image::{Encoding, Image, files, half_random, image, index, noise, tar_of, unnamed};
use super::layout::{Layout, layout, to_bytes};
use super::tarball::Tarball;

/// One folder of `fixtures/`.
pub(crate) struct Fixture {
    /// The folder's name: what is right or wrong.
    pub(crate) name: &'static str,
    /// The kind of source it is, and the file in the folder that is one; empty for the folder itself.
    pub(crate) source: (&'static str, &'static str),
    /// A sentence for the reader.
    pub(crate) about: &'static str,
    /// What an export of it comes to.
    pub(crate) verdict: Verdict,
    /// Its files by their paths; empty for what another program wrote, which is kept as it is.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// What an export of everything for linux/amd64 comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// This many images are exported.
    Exports(usize),
    /// It is refused with this exit status, and these words are said.
    Refused(i32, &'static str),
}

use Verdict::{Exports, Refused};

/// The name of most images here.
const APP: &str = "docker.io/library/app:1";

fn app() -> Image {
    image(APP).layer(files([("etc/app", "1")]))
}

fn plain_app() -> Layout {
    layout().with(app().plain())
}

/// All of them, in the order of the README.
pub(crate) fn all() -> Vec<Fixture> {
    [layouts(), wrong_layouts(), archives(), wrong_archives()].into_iter().flatten().collect()
}

/// Two images, of which the second edition has another byte in a large layer, and another small one.
fn edition(number: u8) -> Layout {
    let mut large = half_random(7, 40_000);
    large[20_000] ^= number;
    let large = tar_of([("data/large".to_owned(), large)]);
    let app = image(APP).layer(files([("usr/lib/base", "shared")])).layer(large);
    layout()
        .with(app.layer(tar_of([("etc/edition".to_owned(), vec![b'0' + number])])))
        .with(image("quay.io/team/web:2").layer(files([("etc/web", "2")])))
}

fn dir(name: &'static str, about: &'static str, verdict: Verdict, layout: &Layout) -> Fixture {
    Fixture { name, source: ("oci", ""), about, verdict, files: layout.files() }
}

fn layouts() -> Vec<Fixture> {
    let base = files([("usr/lib/base", "shared")]);
    let multi = |name: &str| {
        index(name)
            .with(unnamed().layer(files([("etc/app", "amd64")])))
            .with(unnamed().platform("linux/arm64/v8").layer(files([("etc/app", "arm64")])).absent())
    };
    vec![
        dir(
            "layout-two-images",
            "Two images on one layer, which two tools gzipped differently.",
            Exports(2),
            &layout()
                .with(app().layer(base.clone()))
                .with(image("quay.io/team/web:2").layer(base.clone()).gzip_level(1)),
        ),
        dir(
            "layout-all-encodings",
            "Layers plain, in gzip and zstd, and in several members or frames.",
            Exports(1),
            &layout().with(
                (image(APP).layer(noise("1", 1, 900)).plain())
                    .layer(noise("2", 2, 900))
                    .gzip()
                    .layer(noise("3", 3, 900))
                    .gzip_members(2)
                    .layer(noise("4", 4, 900))
                    .zstd()
                    .layer(noise("5", 5, 900))
                    .zstd_frames(2),
            ),
        ),
        dir("layout-edition-1", "Two images.", Exports(2), &edition(1)),
        dir("layout-edition-2", "The same two, of which one is newer.", Exports(2), &edition(2)),
        dir(
            "layout-docker-types",
            "Docker's media types for manifest, config and layer.",
            Exports(1),
            &layout().with(image(APP).docker().layer(base.clone())),
        ),
        dir(
            "layout-mislabelled-layer",
            "A gzipped layer whose media type says that it is a plain tar, as the field has them.",
            Exports(1),
            &layout().with(app().labelled("application/vnd.oci.image.layer.v1.tar")),
        ),
        dir(
            "layout-two-platforms",
            "An index of two platforms, both there.",
            Exports(1),
            &layout().with(
                index("registry.local/team/both:2")
                    .with(unnamed().layer(base.clone()).layer(files([("etc/app", "amd64")])))
                    .with(unnamed().platform("linux/arm64/v8").layer(files([("etc/app", "arm64")]))),
            ),
        ),
        dir(
            "layout-one-platform-absent",
            "An index of two platforms, of which only linux/amd64 is there, as a pull leaves it.",
            Exports(1),
            &layout().with(multi(APP)),
        ),
        dir(
            "layout-attested",
            "An index as BuildKit writes it, with an attestation listed as unknown/unknown.",
            Exports(1),
            &layout().with(multi(APP).attested()),
        ),
        dir(
            "layout-nested-index",
            "An index within an index.",
            Exports(1),
            &layout().with(index(APP).with(multi(""))),
        ),
        dir(
            "layout-several-names",
            "One image under two names.",
            Exports(1),
            &layout().with(app().also("docker.io/library/app:latest")),
        ),
    ]
}

fn wrong_layouts() -> Vec<Fixture> {
    let config = plain_app().stored()[0].manifests[0].config.digest;
    let without = |file: &str| {
        let mut files = plain_app().files();
        files.remove(file);
        files
    };
    let mut version = plain_app().files();
    version.insert("oci-layout".into(), br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec());
    vec![
        dir(
            "layout-bare-tag",
            "An image that has only a tag, no name; `--as` can give it one.",
            Refused(1, "--as"),
            &layout().with(unnamed().layer(files([("etc/app", "1")])).ref_name("v1")),
        ),
        dir(
            "layout-name-twice",
            "One name for two different images.",
            Refused(1, "the name of two images"),
            &layout().with(app()).with(image(APP).layer(files([("etc/app", "2")]))),
        ),
        dir(
            "layout-platform-missing",
            "An index without an image for linux/amd64.",
            Refused(1, "linux/amd64"),
            &layout()
                .with(index(APP).with(unnamed().platform("linux/s390x").layer(files([("etc/app", "z")])))),
        ),
        dir(
            "layout-foreign-layer",
            "A layer that is not to be distributed and is elsewhere.",
            Refused(1, "sha256:"),
            &layout().with(app().layer(files([("windows", "1")])).foreign("https://example.com/layer")),
        ),
        dir(
            "layout-layer-missing",
            "The layer's blob is not there.",
            Refused(1, "not found"),
            &layout().with(app().missing()),
        ),
        dir(
            "layout-config-missing",
            "The config's blob is not there.",
            Refused(1, "not found"),
            &plain_app().without(config),
        ),
        dir(
            "layout-layer-flipped",
            "One bit of the layer's blob is not what it was.",
            Refused(4, "source: blob sha256:"),
            &layout().with(app().flipped()),
        ),
        dir(
            "layout-layer-truncated",
            "The layer's blob ends in its middle.",
            Refused(4, "source: blob sha256:"),
            &layout().with(app().truncated()),
        ),
        dir(
            "layout-layer-grown",
            "The layer's blob has one byte more than its descriptor says.",
            Refused(4, "source: blob sha256:"),
            &layout().with(app().grown()),
        ),
        dir(
            "layout-lying-diff-id",
            "The config gives a diff_id that the layer's tar does not have.",
            Refused(4, "source: "),
            &layout().with(app().lying_diff_id()),
        ),
        Fixture {
            files: version,
            ..dir("layout-other-version", "A layout of a version to come.", Refused(1, "2.0.0"), &layout())
        },
        Fixture {
            files: without("oci-layout"),
            ..dir("layout-no-oci-layout", "No `oci-layout` file.", Refused(1, "no OCI layout"), &layout())
        },
        Fixture {
            files: without("index.json"),
            ..dir("layout-no-index", "No `index.json`.", Refused(1, "no OCI layout"), &layout())
        },
    ]
}

fn file(
    name: &'static str,
    source: (&'static str, &'static str),
    about: &'static str,
    verdict: Verdict,
    bytes: Vec<u8>,
) -> Fixture {
    Fixture { name, source, about, verdict, files: BTreeMap::from([(source.1.to_owned(), bytes)]) }
}

fn archives() -> Vec<Fixture> {
    const OCI: (&str, &str) = ("oci-archive", "images.tar");
    const DOCKER: (&str, &str) = ("docker-archive", "images.tar");
    let base = files([("usr/lib/base", "shared")]);
    let pair = || {
        plain_app().with(
            (image("quay.io/team/web:2").layer(base.clone()).plain())
                .layer(files([("etc/app", "1")]))
                .plain(),
        )
    };
    let packed = |encoding: Encoding| encoding.apply(&pair().oci_archive());
    let kept = |name, about| Fixture {
        name,
        source: ("docker-archive", "images.tar.gz"),
        about,
        verdict: Exports(2),
        files: BTreeMap::new(),
    };
    let gzip = ("oci-archive", "images.tar.gz");
    let zstd = ("oci-archive", "images.tar.zst");
    vec![
        file("archive-oci", OCI, "A layout in a tar.", Exports(2), pair().oci_archive()),
        file("archive-oci-gzip", gzip, "The same in gzip.", Exports(2), packed(Encoding::Gzip(6, 1))),
        file(
            "archive-oci-zstd",
            zstd,
            "The same in two zstd frames.",
            Exports(2),
            packed(Encoding::Zstd(3, 2)),
        ),
        file(
            "archive-docker",
            DOCKER,
            "What `docker save` up to 24 writes: a layer that was written before is a symlink.",
            Exports(2),
            pair().docker_archive(Form::Docker),
        ),
        file(
            "archive-podman",
            DOCKER,
            "What `podman save` writes: layers named by diff_id, symlinks in Docker's places.",
            Exports(2),
            pair().docker_archive(Form::Podman),
        ),
        file(
            "archive-docker-and-oci",
            DOCKER,
            "What `docker save` from 25 on writes: a layout that has a manifest.json as well.",
            Exports(2),
            pair().docker_archive(Form::DockerAndOci),
        ),
        file(
            "archive-docker-gzipped-layers",
            DOCKER,
            "Layers that are compressed within the archive, as crane and Bazel write them.",
            Exports(1),
            layout().with(app()).docker_archive(Form::Compressed),
        ),
        file(
            "archive-garbage-after-end",
            DOCKER,
            "Bytes after the zeros that end it, which tar does not look at either.",
            Exports(1),
            [plain_app().docker_archive(Form::Docker), noise("garbage", 6, 900)].concat(),
        ),
        kept("docker-20.10-save", "Two images as Docker 20.10.24 saved them; gzipped afterwards."),
        kept("docker-26.1-save", "The same two as Docker 26.1.5 saved them; gzipped afterwards."),
    ]
}

fn wrong_archives() -> Vec<Fixture> {
    const DOCKER: (&str, &str) = ("docker-archive", "images.tar");
    let good = || plain_app().docker_tarball(Form::Docker);
    let whole = good().finish();
    let saved = serde_json::json!([{ "Config": "config.json", "RepoTags": [APP], "Layers": [] }]);
    let config = plain_app().blobs[&plain_app().stored()[0].manifests[0].config.digest].clone();
    let no_layers = Tarball::default().file("config.json", &config).file("manifest.json", &to_bytes(&saved));
    let wrong = |name, about, phrase, bytes| file(name, DOCKER, about, Refused(1, phrase), bytes);
    vec![
        wrong("archive-cut-short", "It ends in a layer.", "cut short", whole[..whole.len() / 4].to_vec()),
        wrong("archive-name-climbs", "An entry named ../evil.", "..", good().file("../evil", b"").finish()),
        wrong(
            "archive-link-leads-out",
            "A symlink to /etc/passwd.",
            "leads out",
            good().symlink("layer.tar", "/etc/passwd").finish(),
        ),
        wrong("archive-fifo", "A fifo.", "fifo", good().special("layer.tar", EntryType::Fifo).finish()),
        wrong(
            "archive-sparse",
            "A file with holes, whose content is not in one piece.",
            "--sparse",
            good().special("layer.tar", EntryType::GNUSparse).finish(),
        ),
        wrong(
            "archive-entry-twice",
            "One name for two contents.",
            "twice",
            good().file("manifest.json", b"[]").finish(),
        ),
        wrong(
            "archive-too-few-layers",
            "The config has a diff_id for which manifest.json has no layer.",
            "diff_ids",
            no_layers.finish(),
        ),
        file(
            "archive-lying-diff-id",
            DOCKER,
            "The config gives a diff_id that the layer does not have.",
            Refused(4, "source: blob sha256:"),
            layout().with(app().plain().lying_diff_id()).docker_archive(Form::Docker),
        ),
    ]
}

/// The text of `fixtures/README.md`.
pub(crate) fn readme() -> String {
    let mut text = String::from(
        "# Small layouts and archives, each right or wrong in one way\n\n\
         Made by `cargo run --example make-fixtures`, this page too; what they are is said in \
         `tests/support/fixtures.rs`.\n\
         `tests/local/fixtures.rs` exports every one of them, and fails when a file here is not what the program \
         makes.\n\
         The two of real Dockers are kept as they were written. `corpus/` is the large set that benchmarks \
         use,\n`manifests/` are Kubernetes manifests as they are found in the field, for `tests/local/manifests.rs`.\n\n\
         | folder | what it is | `pannier export --all --platform linux/amd64` |\n|---|---|---|\n",
    );
    for fixture in all() {
        let verdict = match fixture.verdict {
            Exports(1) => "exports 1 image".to_owned(),
            Exports(count) => format!("exports {count} images"),
            Refused(status, _) => format!("is refused, exit {status}"),
        };
        text += &format!("| `{}` | {} | {verdict} |\n", fixture.name, fixture.about);
    }
    text + MEDIUM
}

/// How the frozen medium was made. Never again: later versions have to read the one that is there.
const MEDIUM: &str = "
## `medium-v1`

A medium in the format's first version, frozen: every later version verifies, lists and imports it. `medium-v1.json` is what
`pannier list --json` says of it. pannier 0.1.0 made it, with an entry of skopeo's between; it is not made again.

```
cd fixtures
pannier export --from oci:layout-docker-types docker.io/library/app:1 --as registry.local/team/kept:3 --platform linux/amd64 --compression none --to medium-v1
pannier export --from oci:layout-two-images --all --platform linux/amd64 --to medium-v1
pannier export --from oci:layout-all-encodings docker.io/library/app:1 --as registry.local/team/encodings:1 --platform linux/amd64 --to medium-v1
skopeo --insecure-policy copy oci:layout-bare-tag:v1 oci:medium-v1:left-by-skopeo
pannier export --from oci:layout-two-platforms registry.local/team/both:2 --platform all --to medium-v1
pannier export --from oci:layout-several-names --all --platform linux/amd64 --to medium-v1
```
";

//! The made-up images themselves: same sentence, same bytes; and right where nothing wrong was asked for.

use crate::support::docker::Form;
use crate::support::layout::{files, image, index, layout, noise, unnamed};
use pannier::image::{Digest, Document, ImageConfig};

fn several() -> crate::support::layout::Layout {
    let base = files([("etc/base", "1"), ("usr/share/doc/base", "text")]);
    layout()
        .with(image("docker.io/library/app:1").layer(base.clone()).layer(noise("bin/app", 1, 5000)).zstd())
        .with(
            image("quay.io/team/web:2").docker().layer(base.clone()).gzip_level(1).also("quay.io/team/web:3"),
        )
        .with(
            index("docker.io/library/multi:1")
                .with(unnamed().layer(base.clone()).plain())
                .with(unnamed().platform("linux/arm64/v8").layer(base).absent())
                .attested(),
        )
}

#[test]
fn the_same_sentence_gives_the_same_bytes() {
    assert_eq!(several().files(), several().files());
    for form in [Form::Docker, Form::Podman, Form::DockerAndOci, Form::Compressed] {
        assert_eq!(several().docker_archive(form), several().docker_archive(form));
    }
}

#[test]
fn every_blob_has_the_digest_it_is_listed_under() {
    let layout = several();
    assert!(layout.blobs.iter().all(|(digest, bytes)| Digest::of(bytes) == *digest));
    let app = &layout.find("docker.io/library/app:1").manifests[0];
    let bytes = &layout.blobs[&app.descriptor.digest];
    let Ok(Document::Manifest(manifest)) = Document::parse(&app.descriptor.media_type, bytes) else {
        panic!("not a manifest")
    };
    assert_eq!(manifest.layers.len(), 2);
    let config = ImageConfig::parse(&layout.blobs[&manifest.config.digest]).unwrap();
    assert_eq!(config.diff_ids(), app.diff_ids);
}

#[test]
fn only_what_was_asked_for_is_wrong() {
    let plain = files([("a", "1")]);
    let right = layout().with(image("a:1").layer(plain.clone()));
    let layer = right.stored()[0].manifests[0].layers[0].clone();
    let flipped = layout().with(image("a:1").layer(plain.clone()).flipped());
    assert_ne!(Digest::of(&flipped.blobs[&layer.digest]), layer.digest);
    assert_eq!(flipped.blobs.len(), right.blobs.len());
    let missing = layout().with(image("a:1").layer(plain).missing());
    assert_eq!(missing.blobs.len(), right.blobs.len() - 1);
    let multi = several();
    let arm = &multi.find("docker.io/library/multi:1").manifests[1];
    assert!(!multi.blobs.contains_key(&arm.descriptor.digest));
}

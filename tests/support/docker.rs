//! Made-up images as `docker save` and `podman save` write them.

use std::collections::BTreeMap;

use pannier::image::Digest;
use serde_json::json;

use super::layout::{Image, Layout, config_json, damaged, to_bytes};
use super::tarball::Tarball;

/// Which program's archive it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Docker up to 24: `<id>/layer.tar`, a layer that was written before as a symlink.
    Docker,
    /// podman and skopeo: `<diff_id>.tar`, with symlinks in Docker's places.
    Podman,
    /// Docker from 25 on: an OCI layout and `manifest.json` in one.
    DockerAndOci,
    /// As [`Form::Docker`], with the layers compressed as the image says, as some tools do.
    Compressed,
}

impl Layout {
    /// The images (indexes left out) as a Docker archive.
    pub(crate) fn docker_archive(&self, form: Form) -> Vec<u8> {
        self.docker_tarball(form).finish()
    }

    /// The same before its end, so that more can be put into it.
    pub(crate) fn docker_tarball(&self, form: Form) -> Tarball {
        let mut archive = Tarball::default();
        let mut written: BTreeMap<Digest, String> = BTreeMap::new();
        let mut entries = Vec::new();
        if form == Form::DockerAndOci {
            for (path, bytes) in self.files() {
                archive = archive.file(&path, &bytes);
            }
        }
        for image in &self.images {
            let config = config_json(image);
            let config_hex = Digest::of(&config).hex();
            let mut layers = Vec::new();
            for (i, layer) in image.layers.iter().enumerate() {
                let bytes = if form == Form::Compressed { layer.encoded() } else { layer.tar.clone() };
                let bytes = match layer.defect {
                    None => Some(bytes),
                    Some(defect) => damaged(bytes, defect),
                };
                let id = Digest::of(format!("{config_hex} {i}").as_bytes()).hex();
                let place = format!("{id}/layer.tar");
                let diff_id = layer.diff_id();
                let path = match form {
                    Form::DockerAndOci => format!("blobs/sha256/{}", Digest::of(&layer.encoded()).hex()),
                    Form::Podman => format!("{}.tar", diff_id.hex()),
                    Form::Docker | Form::Compressed => place.clone(),
                };
                layers.push(path.clone());
                let Some(bytes) = bytes.filter(|_| form != Form::DockerAndOci) else { continue };
                let first = written.entry(diff_id).or_insert_with(|| path.clone()).clone();
                match form {
                    Form::Podman => {
                        if first == path && !archive.holds(&path) {
                            archive = archive.file(&path, &bytes);
                        }
                        archive = archive.symlink(&place, &format!("../{path}"));
                    }
                    _ if first == path => archive = archive.directory(&id).file(&path, &bytes),
                    _ => archive = archive.directory(&id).symlink(&path, &format!("../{first}")),
                }
                archive = archive.file(&format!("{id}/VERSION"), b"1.0");
            }
            let config_path = match form {
                Form::DockerAndOci => format!("blobs/sha256/{config_hex}"),
                _ => format!("{config_hex}.json"),
            };
            if form != Form::DockerAndOci && !image.config_absent {
                archive = archive.file(&config_path, &config);
            }
            let tags = repo_tags(image, form);
            entries.push(json!({ "Config": config_path, "RepoTags": tags, "Layers": layers }));
        }
        archive.file("manifest.json", &to_bytes(&json!(entries))).file("repositories", b"{}")
    }
}

/// Docker writes names as a person types them, podman in full; no names at all as `null`.
fn repo_tags(image: &Image, form: Form) -> Option<Vec<String>> {
    let familiar = |name: &String| {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        name.strip_prefix("library/").unwrap_or(name).to_owned()
    };
    let names = &image.label.names;
    match form {
        _ if names.is_empty() => None,
        Form::Podman => Some(names.clone()),
        _ => Some(names.iter().map(familiar).collect()),
    }
}

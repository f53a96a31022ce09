//! Manifests and indexes as they are carried: the original's, naming the layers as they are encoded.

use serde_json::{Map, Value, json};

use crate::image::{Descriptor, MediaKind, Platform, is_oci, kind};
use crate::image::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::record::ImagePlatform;

/// The manifest that lists `layers` in place of the original's.
///
/// Where every layer is the original one and every media type is OCI's already, these are the
/// original's bytes. Otherwise Docker's types become OCI's (the config's bytes stay, and so the image
/// id), and annotations that describe a replaced layer's bytes are dropped; all else is kept. Keys
/// are sorted, so that the same input gives the same bytes. The error is a sentence.
pub fn carried_manifest(
    original: &Descriptor,
    bytes: &[u8],
    layers: &[Descriptor],
) -> Result<Vec<u8>, String> {
    let mut manifest: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
    let mut same = is_oci(&original.media_type);
    same &= map_type(&mut manifest, MediaKind::Manifest);
    if let Some(Value::Object(config)) = manifest.get_mut("config") {
        same &= map_type(config, MediaKind::Config);
    }
    let listed = match manifest.get_mut("layers") {
        Some(Value::Array(listed)) => listed.as_mut_slice(),
        _ => &mut [],
    };
    if listed.len() != layers.len() {
        return Err(format!("{} layers where {} were expected", listed.len(), layers.len()));
    }
    for (listed, layer) in listed.iter_mut().zip(layers) {
        let Value::Object(listed) = listed else { return Err("a layer is no descriptor".into()) };
        same &= replace_layer(listed, layer);
    }
    if same {
        return Ok(bytes.to_vec());
    }
    manifest.insert("mediaType".into(), OCI_MANIFEST.into());
    manifest.insert("schemaVersion".into(), 2.into());
    Ok(Value::Object(manifest).to_string().into_bytes())
}

/// Makes a Docker media type OCI's; true if there was nothing to do.
fn map_type(object: &mut Map<String, Value>, expected: MediaKind) -> bool {
    let Some(Value::String(media_type)) = object.get("mediaType") else { return true };
    if is_oci(media_type) || kind(media_type) != expected {
        return true;
    }
    let oci = if expected == MediaKind::Config { OCI_CONFIG } else { OCI_MANIFEST };
    object.insert("mediaType".into(), oci.into());
    false
}

/// Puts `layer` in the place of the listed one; true if it is the same already.
fn replace_layer(listed: &mut Map<String, Value>, layer: &Descriptor) -> bool {
    let digest = layer.digest.to_string();
    let same_bytes = listed.get("digest").and_then(Value::as_str) == Some(&digest);
    let same_type = listed.get("mediaType").and_then(Value::as_str) == Some(&*layer.media_type);
    listed.insert("mediaType".into(), layer.media_type.as_str().into());
    listed.insert("digest".into(), digest.into());
    listed.insert("size".into(), layer.size.into());
    if !same_bytes {
        // Where else the old bytes are, or the old bytes themselves.
        listed.remove("urls");
        listed.remove("data");
        if let Some(Value::Object(annotations)) = listed.get_mut("annotations") {
            annotations.retain(|key, _| !describes_bytes(key));
            if annotations.is_empty() {
                listed.remove("annotations");
            }
        }
    }
    same_bytes && same_type
}

/// Whether an annotation tells of the encoded bytes: tables of contents of lazily pulled formats.
fn describes_bytes(key: &str) -> bool {
    ["stargz", "zstd-chunked", "nydus", "soci"].iter().any(|format| key.contains(format))
}

/// What `index.json` points at for an image of these platforms: the one manifest, or an index of all of
/// them, with its bytes.
pub(super) fn carried_root(platforms: &[ImagePlatform]) -> (Descriptor, Option<Vec<u8>>) {
    if let [one] = platforms {
        return (one.carried.clone(), None);
    }
    let bytes = index_of(platforms);
    (Descriptor::of(OCI_INDEX, &bytes), Some(bytes))
}

pub(super) fn index_of(platforms: &[ImagePlatform]) -> Vec<u8> {
    let manifests: Vec<_> = platforms.iter().map(|p| (p.platform.clone(), p.carried.clone())).collect();
    carried_index(&manifests)
}

/// The index of the carried manifests of several platforms, sorted by platform.
pub fn carried_index(manifests: &[(Platform, Descriptor)]) -> Vec<u8> {
    let mut manifests: Vec<&(Platform, Descriptor)> = manifests.iter().collect();
    manifests.sort_by(|a, b| a.0.cmp(&b.0));
    let entries: Vec<Value> = manifests
        .into_iter()
        .map(|(platform, manifest)| {
            json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.size,
                "platform": platform,
            })
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Compression, Digest, Document};

    fn layer(compression: Compression, bytes: &[u8]) -> Descriptor {
        Descriptor::of(compression.oci_layer_type(), bytes)
    }

    fn manifest(vendor: &str, extra: &str) -> (Descriptor, Vec<u8>, Descriptor) {
        let (manifest, config, gzip) = match vendor {
            "docker" => (
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            _ => (OCI_MANIFEST, OCI_CONFIG, Compression::Gzip.oci_layer_type()),
        };
        let digest = Digest::of(b"gz");
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{manifest}","config":{{"mediaType":"{config}","digest":"{digest}","size":2}},
               "layers":[{{"mediaType":"{gzip}","digest":"{digest}","size":2{extra}}}],"annotations":{{"b":"2","a":"1"}}}}"#
        );
        let bytes = text.into_bytes();
        (Descriptor::of(manifest, &bytes), bytes, layer(Compression::Gzip, b"gz"))
    }

    #[test]
    fn an_oci_manifest_whose_layers_stay_is_not_touched() {
        let (descriptor, bytes, gzip) = manifest("oci", "");
        assert_eq!(carried_manifest(&descriptor, &bytes, &[gzip]).unwrap(), bytes);
    }

    #[test]
    fn a_docker_manifest_becomes_an_oci_one_even_where_its_layers_stay() {
        let (descriptor, bytes, gzip) = manifest("docker", "");
        let carried = carried_manifest(&descriptor, &bytes, &[gzip]).unwrap();
        assert!(!String::from_utf8(carried.clone()).unwrap().contains("docker"));
        let Document::Manifest(parsed) = Document::parse(OCI_MANIFEST, &carried).unwrap() else { panic!() };
        assert_eq!(parsed.config.digest, Digest::of(b"gz"));
    }

    #[test]
    fn a_replaced_layer_takes_what_describes_its_bytes_with_it() {
        let extra = r#","annotations":{"containerd.io/snapshot/stargz/toc.digest":"x","keep":"y"},"urls":["http://x"]"#;
        let (descriptor, bytes, _) = manifest("oci", extra);
        let zstd = layer(Compression::Zstd, b"zst");
        let carried = carried_manifest(&descriptor, &bytes, std::slice::from_ref(&zstd)).unwrap();
        let Document::Manifest(parsed) = Document::parse(OCI_MANIFEST, &carried).unwrap() else { panic!() };
        assert_eq!(parsed.layers[0].descriptor, zstd);
        assert_eq!(parsed.layers[0].annotations.keys().collect::<Vec<_>>(), ["keep"]);
        assert!(parsed.layers[0].urls.is_empty());
        assert!(String::from_utf8(carried).unwrap().contains(r#""annotations":{"a":"1","b":"2"}"#));
    }

    #[test]
    fn the_number_of_layers_must_agree() {
        let (descriptor, bytes, _) = manifest("oci", "");
        assert!(carried_manifest(&descriptor, &bytes, &[]).is_err());
    }

    #[test]
    fn an_index_does_not_depend_on_the_order_of_exports() {
        let amd64 = ("linux/amd64".parse().unwrap(), layer(Compression::None, b"a"));
        let arm64 = ("linux/arm64".parse().unwrap(), layer(Compression::None, b"b"));
        assert_eq!(carried_index(&[amd64.clone(), arm64.clone()]), carried_index(&[arm64, amd64]));
    }
}

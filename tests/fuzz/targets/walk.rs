//! The walk from an index or a manifest down to the layers, over documents that name each other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::image::{Descriptor, Digest, Document, ImageConfig, Index};
use pannier::source::{Platforms, Wanted, resolve};
use pannier_fuzz::{Blobs, is_plain, woven};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fuzz_target!(|data: &[u8]| {
    let documents = woven(data);
    for text in &documents {
        let errors = [
            Document::parse(INDEX, text).err(),
            Document::parse(MANIFEST, text).err(),
            ImageConfig::parse(text).err(),
            Index::parse(text).err(),
        ];
        assert!(errors.iter().flatten().all(|error| is_plain(error)), "{errors:?}");
    }
    let Some(first) = documents.first() else { return };
    let image = "example.org/a/b:1".parse().expect("a reference");
    let roots = [Descriptor::of(INDEX, first), Descriptor::of(MANIFEST, first)];
    let blobs = Blobs(documents.iter().map(|text| (Digest::of(text), text.clone())).collect());
    for descriptor in roots {
        let wanted = Wanted::clone(&Wanted {
            image: pannier::image::Reference::clone(&image),
            name: pannier::image::Reference::clone(&image),
            descriptor: Some(descriptor),
        });
        match resolve(&blobs, &wanted, &Platforms::All) {
            Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
            Ok(resolved) => {
                for platform in &resolved.platforms {
                    assert!(blobs.0.contains_key(&platform.manifest.digest), "{platform:?}");
                    assert!(blobs.0.contains_key(&platform.config.digest), "{platform:?}");
                }
            }
        }
    }
});

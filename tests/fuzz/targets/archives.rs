//! The readers of archives, over a tar whose checksums are right, and over the bytes as they are.
//! Compressed archives are the tar behind the decoder, which `layer` is about.
#![no_main]

use std::io::{Read, Write};
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use pannier::progress::Stop;
use pannier::source::{Platforms, SourceSpec, everything, open_local, resolve};
use pannier_fuzz::{MEMORY, is_plain, mend_tar};

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    mend_tar(&mut bytes);
    let mut file = tempfile::NamedTempFile::new_in(MEMORY).expect("a file in memory");
    file.write_all(&bytes).expect("a file in memory");
    let kinds: [fn(PathBuf) -> SourceSpec; 2] = [SourceSpec::OciArchive, SourceSpec::DockerArchive];
    for kind in kinds {
        let source = match open_local(&kind(file.path().to_owned()), &Stop::default()) {
            Ok(source) => source,
            Err(error) => {
                assert!(is_plain(&error.to_string()), "{error:?}");
                continue;
            }
        };
        let unnamed = "example.org/unnamed:1".parse().expect("a reference");
        let Ok(all) = everything(source.as_ref(), Some(&unnamed)) else { continue };
        for wanted in all {
            let Ok(resolved) = resolve(source.as_ref(), &wanted, &Platforms::All) else { continue };
            for layer in resolved.platforms.iter().flat_map(|platform| &platform.layers) {
                for offer in &layer.offers {
                    if let Ok(mut blob) = pannier::source::open(source.as_ref(), &wanted.image, &offer.descriptor) {
                        let mut read = Vec::new();
                        let whole = blob.read_to_end(&mut read).is_ok();
                        assert!(read.len() as u64 <= offer.descriptor.size);
                        assert!(!whole || read.len() as u64 == offer.descriptor.size);
                    }
                }
            }
        }
    }
});

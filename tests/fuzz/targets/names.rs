//! References, digests and platforms: what is accepted prints as itself, and is plain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::image::{Digest, Platform, Reference};
use pannier_fuzz::is_plain;

fuzz_target!(|text: &str| {
    match text.parse::<Digest>() {
        Ok(digest) => assert_eq!(digest.to_string(), text),
        Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
    }
    match text.parse::<Reference>() {
        Ok(reference) => {
            let full = reference.to_string();
            assert!(full.bytes().all(|byte| byte.is_ascii_graphic()), "{full:?}");
            let repository = reference.repository();
            assert!(repository.len() <= 255 && !repository.contains(".."), "{full:?}");
            assert_eq!(full.parse::<Reference>().as_ref(), Ok(&reference));
            let _ = reference.rename("docker.io", text);
            let _ = reference.rename(text, "docker.io");
        }
        Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
    }
    match text.parse::<Platform>() {
        Ok(platform) => assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform)),
        Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
    }
});

//! Lists of references and Kubernetes manifests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::lists::{kubernetes, references};
use pannier_fuzz::is_plain;

fuzz_target!(|text: &str| {
    if let Err(error) = references::parse(text, "list", &Default::default()) {
        assert!(is_plain(&error.to_string()), "{error:?}");
    }
    let choice = kubernetes::Choice { any_image_field: true, any_string: true, ..Default::default() };
    let mut found = kubernetes::Found::default();
    if let Err(error) = found.read(text, "manifests", &choice) {
        assert!(is_plain(&error.to_string()), "{error:?}");
    }
    assert!(found.warnings.iter().all(|warning| is_plain(warning)), "{:?}", found.warnings);
});

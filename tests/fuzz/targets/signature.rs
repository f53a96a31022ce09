//! Signatures: of a key that is allowed, over bytes that nobody signed. None may count.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pannier::trust::AllowedSigners;
use pannier_fuzz::is_plain;
use time::OffsetDateTime;

static ALLOWED: LazyLock<AllowedSigners> = LazyLock::new(|| {
    AllowedSigners::parse(include_bytes!("../seeds/allowed")).expect("the file of allowed signers")
});

fuzz_target!(|data: &[u8]| {
    let signatures: Vec<Vec<u8>> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let checked = ALLOWED.check(b"not what was signed", &signatures, OffsetDateTime::UNIX_EPOCH);
    assert!(is_plain(&checked.expect_err("a signature was forged")));
});

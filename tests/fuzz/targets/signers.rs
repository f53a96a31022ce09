//! Files of allowed signers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::trust::AllowedSigners;
use pannier_fuzz::is_plain;
use time::OffsetDateTime;

const SIGNATURE: &[u8] = include_bytes!("../seeds/signature");

fuzz_target!(|data: &[u8]| {
    match AllowedSigners::parse(data) {
        Err(error) => assert!(is_plain(&error), "{error:?}"),
        Ok(allowed) => {
            let now = OffsetDateTime::UNIX_EPOCH;
            assert!(allowed.check(b"not what was signed", &[SIGNATURE.to_vec()], now).is_err());
        }
    }
});

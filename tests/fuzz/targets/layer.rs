//! Decoding of layers: gzip, zstd, plain. What was decoded decodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::layer::{Most, check, decode};

/// More than this is not looked at: a fuzzer finds the bombs, and they take its time.
const ENOUGH: u64 = 8 << 20;

fuzz_target!(|data: &[u8]| {
    let mut size = 0;
    let decoded = decode(data, Most::Bytes(ENOUGH), |piece| {
        size += piece.len() as u64;
        Ok(())
    });
    assert!(size <= ENOUGH);
    if let Ok(decoded) = decoded {
        assert_eq!(decoded.size, size);
        assert_eq!(check(data, Most::Bytes(size)).ok(), Some(decoded));
    }
});

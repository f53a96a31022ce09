//! Decoding of layers: gzip, zstd, plain. What was decoded decodes to the same again.
#![no_main]

use std::io;

use libfuzzer_sys::fuzz_target;

/// More than this is not looked at: a fuzzer finds the bombs, and they take its time.
const ENOUGH: u64 = 8 << 20;

fuzz_target!(|data: &[u8]| {
    let mut size = 0;
    let decoded = pannier::layer::decode(data, |piece| {
        size += piece.len() as u64;
        if size > ENOUGH { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
    });
    if let Ok(decoded) = decoded {
        assert_eq!(decoded.size, size);
        assert_eq!(pannier::layer::check(data).ok(), Some(decoded));
    }
});

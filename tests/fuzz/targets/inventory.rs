//! Inventories of nodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::holdings::Holdings;
use pannier_fuzz::is_plain;

fuzz_target!(|data: &[u8]| {
    match Holdings::parse(data) {
        Err(error) => assert!(is_plain(&error), "{error:?}"),
        Ok(holdings) => {
            let again = holdings.to_bytes().expect("an inventory that was read is written");
            assert_eq!(Holdings::parse(&again), Ok(holdings));
        }
    }
});

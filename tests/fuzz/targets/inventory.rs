//! Inventories of nodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::inventory::Inventory;
use pannier_fuzz::is_plain;

fuzz_target!(|data: &[u8]| {
    match Inventory::parse(data) {
        Err(error) => assert!(is_plain(&error), "{error:?}"),
        Ok(inventory) => {
            let again = inventory.to_bytes().expect("an inventory that was read is written");
            assert_eq!(Inventory::parse(&again), Ok(inventory));
        }
    }
});

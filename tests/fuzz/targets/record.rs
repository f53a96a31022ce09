//! The commit record: raw bytes, and a body with the right checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pannier::record::Record;
use pannier_fuzz::{is_plain, sealed};

fuzz_target!(|data: &[u8]| {
    let _ = Record::parse(data);
    match Record::parse(&sealed(data)) {
        Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
        Ok(record) => {
            let again = record.to_bytes().expect("a record that was read is written");
            assert_eq!(Record::parse(&again).as_ref(), Ok(&record));
            pannier::record::list(&record);
            for image in &record.images {
                record.is_whole(image);
                record.left_out(image);
            }
        }
    }
});

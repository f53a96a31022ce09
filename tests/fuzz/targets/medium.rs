//! A whole medium: the first document is the commit record's body, the second `index.json`, the others
//! are blobs. Everything that reads a medium reads it.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use pannier::image::Digest;
use pannier::medium::Medium;
use pannier::progress::{Run, Silent, Stop};
use pannier::repair;
use pannier_fuzz::{MEMORY, is_plain, sealed, woven};

fuzz_target!(|data: &[u8]| {
    // The documents that others name come behind them, so the record is the first here as well.
    let documents = woven(data);
    let [body, index, blobs @ ..] = &documents[..] else { return };
    let directory = tempfile::tempdir_in(MEMORY).expect("a directory in memory");
    let path = directory.path();
    for made in ["blobs/sha256", ".pannier/commits"] {
        fs::create_dir_all(path.join(made)).expect("a directory");
    }
    let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes).expect("a file");
    write("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
    write("index.json", index);
    write(".pannier/commits/0000000001.json", &sealed(body));
    for blob in blobs {
        write(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    let stop = Stop::default();
    let run = Run { reporter: &Silent, stop: &stop };
    let Ok(medium) = Medium::open(path) else { return };
    if let Ok(report) = pannier::verify::verify(&medium, true, run) {
        for finding in &report.findings {
            assert!(is_plain(&finding.subject) && is_plain(&finding.detail), "{finding:?}");
        }
    }
    let _ = repair::prepare(&medium, None, &repair::Options::default(), run);
});

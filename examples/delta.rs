//! Makes and applies deltas of layers, for measuring: what the export does, and what the node does.
//!
//! ```text
//! delta make BASE TAR OUT        BASE, TAR: layers in any encoding
//! delta apply BASE OUT TAR       rebuilds the tar of TAR from BASE and OUT
//! ```

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use pannier::layer::{Scratch, delta, scratch_directory};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, base, second, third] = arguments.as_slice() else { panic!("make or apply, and three files") };
    let directory = scratch_directory();
    let tar = |path: &str| {
        Scratch::tar(&directory, File::open(Path::new(path)).unwrap(), pannier::limits::DELTA_TAR).unwrap()
    };
    let begun = Instant::now();
    let (base, _) = tar(base);
    let decoded = begun.elapsed();
    match what.as_str() {
        "make" => {
            let (new, _) = tar(second);
            let begun = Instant::now();
            let made = delta::make(&base, &new, pannier::limits::DELTA).unwrap().unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            println!("{} {} {} {seconds:.3}", base.len(), new.len(), made.bytes.len());
            std::fs::write(third, made.bytes).unwrap();
        }
        "apply" => {
            let (new, decoded_new) = tar(third);
            let begun = Instant::now();
            let patch = File::open(second).unwrap();
            let tar = delta::apply(&directory, &base, patch, new.len()).unwrap();
            let (decoded, applied) = (decoded.as_secs_f64(), begun.elapsed().as_secs_f64());
            assert_eq!(tar.digest().unwrap(), decoded_new.diff_id);
            println!("{} {} {decoded:.3} {applied:.3}", base.len(), new.len());
        }
        _ => panic!("make or apply"),
    }
}

//! Finds how the gzip files that are named were made, and measures how fast they are made again.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::io::{Write as _, sink};
use std::time::Instant;

use pannier::layer::gzip::{Parallel, analyse};

fn main() {
    for path in std::env::args().skip(1) {
        let mut tar = Vec::new();
        let begun = Instant::now();
        let recipe = analyse(File::open(&path).unwrap(), |bytes| {
            tar.extend_from_slice(bytes);
            Ok(())
        });
        let speed = |begun: Instant| tar.len() as f64 / 1e6 / begun.elapsed().as_secs_f64();
        let analysed = speed(begun);
        let Some(recipe) = recipe.unwrap() else {
            println!("{path}: no model makes it; {analysed:.0} MB/s");
            continue;
        };
        let models: Vec<_> = recipe.parts.iter().map(|part| part.model.as_str()).collect();
        print!("{path}: {}; analysed at {analysed:.0} MB/s of tar", models.join(", "));
        for threads in [1, 2] {
            let begun = Instant::now();
            let mut parallel = Parallel::new(&recipe, threads, sink()).unwrap();
            tar.chunks(256 << 10).for_each(|bytes| parallel.write_all(bytes).unwrap());
            parallel.finish().unwrap();
            print!("; made by {threads} at {:.0} MB/s", speed(begun));
        }
        println!("; {} bytes of record", serde_json::to_string(&recipe).unwrap().len());
    }
}

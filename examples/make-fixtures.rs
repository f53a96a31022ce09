//! Makes `fixtures/` anew: `cargo run --example make-fixtures`.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::fs;
use std::path::Path;

#[path = "../tests/support/docker.rs"]
mod docker;
#[path = "../tests/support/fixtures.rs"]
mod fixtures;
#[path = "../tests/support/image.rs"]
mod image;
#[path = "../tests/support/layout.rs"]
mod layout;
#[path = "../tests/support/tarball.rs"]
mod tarball;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for fixture in fixtures::all() {
        // What another program wrote cannot be made here.
        if fixture.files.is_empty() {
            continue;
        }
        let folder = root.join(fixture.name);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        layout::write_files(&folder, fixture.files);
    }
    fs::write(root.join("README.md"), fixtures::readme()).unwrap();
    println!("{}", root.display());
}

//! Exports every image of an OCI layout to a medium: `cargo run --example export -- LAYOUT MEDIUM`.
#![allow(clippy::print_stdout)]

use std::path::Path;

use pannier::export::{Options, carry_out, prepare};
use pannier::medium::Medium;
use pannier::progress::{Run, Silent, Stop};
use pannier::source::{ImageRequest, SourceSpec, open_local};

fn main() -> pannier::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, path] = arguments.as_slice() else {
        return Err(pannier::Error::Usage("export LAYOUT MEDIUM".into()));
    };
    let (stop, path) = (Stop::default(), Path::new(path));
    let run = Run { reporter: &Silent, stop: &stop };
    let source = open_local(&SourceSpec::OciDir(layout.into()), &stop)?;
    let named = source.list()?.into_iter().filter_map(|listed| Some((listed.name?, listed.descriptor)));
    let wanted: Vec<_> = named
        .map(|(image, found)| ImageRequest { name: image.clone(), image, descriptor: Some(found) })
        .collect();

    let options = Options::default();
    let mut medium = Medium::create(path)?;
    let lock = medium.lock_to_export()?;
    let prepared = prepare(&*source, Some(&medium), path, &wanted, &options, run)?;
    let summary = carry_out(&*source, &mut medium, &lock, prepared, &options, run)?;
    println!("commit {}: {} images, {} bytes of layers", summary.sequence, summary.images, summary.written.1);
    Ok(())
}

//! Imports every image of a medium into containerd: `cargo run --example import -- MEDIUM SOCKET`.
#![allow(clippy::print_stdout)]

use std::path::Path;

use pannier::import::{Options, carry_out, prepare};
use pannier::medium::Medium;
use pannier::node::{Node, NodeOptions};
use pannier::progress::{Run, Silent, Stop};
use pannier::trust::Admitted;

fn main() -> pannier::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [medium, socket] = arguments.as_slice() else {
        return Err(pannier::Error::Usage("import MEDIUM SOCKET".into()));
    };
    let stop = Stop::default();
    let run = Run { reporter: &Silent, stop: &stop };
    // Whoever asks for signatures opens the medium with `trust::Admission`.
    let medium = Admitted::unchecked(Medium::open(Path::new(medium))?);
    let namespace = "k8s.io".into();
    let node = Node::survey(&NodeOptions { address: Some(socket.into()), namespace, ..Default::default() })?;

    let options = Options::default();
    let prepared = prepare(&medium, &node, &options, |_| (), run)?;
    for space in &prepared.space {
        println!("{}: needs {} bytes of {}", space.path.display(), space.need.total(), space.free);
    }
    let summary = carry_out(&medium, &node, prepared, &options, run)?;
    println!("{} images, {} bytes sent", summary.images, summary.sent);
    Ok(())
}

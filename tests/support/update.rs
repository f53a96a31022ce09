//! An older and a newer set of images: their layouts, their media, and nodes that have the older one.

use std::fs;
use std::path::{Path, PathBuf};

use pannier::medium::Medium;
use pannier::record::Record;

use super::carry::{Ran, oci, run, text};
use super::cluster::import;
use super::layout::Layout;
use super::node::Node;

/// The layouts `old-layout` and `new-layout`, the archive `old.tar` and the medium `old`; `new` is for
/// the test to make.
pub(crate) struct Update {
    directory: tempfile::TempDir,
}

impl Update {
    /// Writes both sets and exports the older one.
    pub(crate) fn new(older: &Layout, newer: &Layout) -> Self {
        let directory = tempfile::Builder::new().prefix("pannier-update-").tempdir().unwrap();
        let update = Self { directory };
        older.write_dir(&update.path("old-layout"));
        newer.write_dir(&update.path("new-layout"));
        fs::write(update.path("old.tar"), older.oci_archive()).unwrap();
        update.export(0, "old-layout", "old", &[]);
        update
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn export(&self, status: i32, from: &str, to: &str, more: &[&str]) -> Ran {
        let (from, to) = (oci(&self.path(from)), self.path(to));
        let own =
            ["export", "--json", "--from", &from, "--all", "--platform", "linux/amd64", "--to", text(&to)];
        run(status, own.into_iter().chain(more.iter().copied()))
    }

    pub(crate) fn record(&self, medium: &str) -> Record {
        Medium::open(&self.path(medium)).unwrap().record().unwrap().clone()
    }

    /// A node that imported the older set from its medium.
    pub(crate) fn imported(&self, version: &str) -> Node {
        let node = Node::start(version);
        import(0, &node, &self.path("old"), &[]);
        node
    }

    /// A node that has the older set as a registry had it, unpacked.
    pub(crate) fn pulled(&self, version: &str) -> Node {
        let node = Node::start(version);
        node.ctr(&["images", "import", text(&self.path("old.tar"))]);
        node
    }
}

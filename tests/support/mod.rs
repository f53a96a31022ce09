//! What the integration tests share. Each test file uses its own part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub(crate) mod carry;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod docker;
pub(crate) mod faultdisk;
pub(crate) mod fixtures;
pub(crate) mod gate;
pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod mounted;
pub(crate) mod node;
pub(crate) mod node_state;
pub(crate) mod oracle;
pub(crate) mod pages;
pub(crate) mod proxy;
pub(crate) mod pushed;
pub(crate) mod registry;
pub(crate) mod seen;
pub(crate) mod stick;
pub(crate) mod strace;
pub(crate) mod tarball;
pub(crate) mod update;

pub(crate) use gate::{root, skipped};

/// Unfinished blobs on a node: every ingest but the sign that an import runs, which stays with its lease where the import
/// has failed.
pub(crate) fn unfinished(client: &pannier::containerd::Client) -> Vec<String> {
    let partials = client.partials("").unwrap().into_iter().map(|partial| partial.reference);
    partials.filter(|reference| !reference.starts_with("pannier-alive-")).collect()
}

/// Notes for the table of the fault matrix how many moments a sweep tries.
pub(crate) fn swept(sweep: &str, moments: usize) {
    eprintln!("swept: {sweep}: {moments} moments");
}

//! Faults between pannier and containerd, at every call of an import: no image name ever stands for
//! less than a whole image, and the same command completes.
//!
//! A quick part runs always; with `PANNIER_FAULTS=all` every moment is tried on every version.

mod disk;
mod lease;
mod silence;
mod status;
mod sweep;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::support::carry::{pannier, text};
use crate::support::cluster::{Bench, app, versions};
use crate::support::layout::{Layout, layout, noise};
use crate::support::proxy::Proxy;

/// Two images that share a layer.
fn pair() -> Layout {
    let base = noise("data/base", 1, 300_000);
    let with = |name: &str, seed| app(name).layer(base.clone()).layer(noise("data/own", seed, 100_000));
    layout().with(with("docker.io/library/one:1", 2)).with(with("docker.io/library/two:1", 3))
}

/// Whether every moment is to be tried, on every version.
fn all() -> bool {
    std::env::var("PANNIER_FAULTS").as_deref() == Ok("all")
}

/// The newest version; all, where every moment is to be tried.
fn swept_versions() -> Vec<&'static str> {
    let versions = versions();
    if all() { versions } else { versions.into_iter().rev().take(1).collect() }
}

/// A medium with them.
fn medium() -> (Bench, PathBuf) {
    let bench = Bench::new();
    let medium = bench.medium("m", &pair());
    (bench, medium)
}

/// Begins an import through a proxy.
fn begin(proxy: &Proxy, medium: &Path, more: &[&str]) -> Child {
    let socket = proxy.socket();
    pannier(["import", text(medium), "--address", text(&socket), "--json"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How it ended, and what it said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

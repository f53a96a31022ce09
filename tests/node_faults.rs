//! Faults between pannier and containerd, at every call of an import: no image name ever stands for
//! less than a whole image, and the same command completes.
//!
//! A quick part runs always; with `PANNIER_FAULTS=all` every moment is tried on every version.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use std::path::Path;
use std::process::{Child, Stdio};

use support::carry::{pannier, text};
use support::cluster::{Bench, app, import, versions};
use support::layout::{Layout, layout, noise};
use support::node::Node;
use support::node_state::{State, assert_only_whole_images, empty};
use support::proxy::{At, Fault, Proxy};

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

fn swept_versions() -> Vec<&'static str> {
    let versions = versions();
    if all() { versions } else { versions.into_iter().rev().take(1).collect() }
}

/// Begins an import through a proxy.
fn begin(proxy: &Proxy, medium: &Path) -> Child {
    let socket = proxy.socket();
    pannier(["import", text(medium), "--address", text(&socket), "--json"])
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

/// Runs imports that go wrong at one moment after the other, `step` apart, until one ends before its
/// moment comes. `disturb` does the worst while the call is held, and sees to the end of the child.
fn sweep(step: usize, mut disturb: impl FnMut(&mut Node, &Proxy, Child, &str)) {
    let bench = Bench::new();
    let medium = bench.medium("m", &pair());
    for version in swept_versions() {
        let mut node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        let mut moments = 0;
        for number in (1..).step_by(step) {
            empty(&node);
            proxy.arm(At::Moment(number), Fault::Hold);
            let mut child = begin(&proxy, &medium);
            let moment = proxy.await_strike(|| child.try_wait().unwrap().is_some());
            let Some(moment) = moment else {
                let (status, said) = end(child);
                assert_eq!(status, Some(0), "{said}");
                break;
            };
            let what = format!("containerd {version}, moment {number}, {moment}");
            disturb(&mut node, &proxy, child, &what);
            proxy.disarm();
            proxy.release();
            assert_only_whole_images(&node, &what);
            import(0, &node, &medium, &[]);
            State::of(&node).assert_is(&expected, &what);
            moments += 1;
        }
        eprintln!("containerd {version}: {moments} moments");
        assert!(moments * step > 100, "only {moments} moments were tried");
    }
}

// fault-matrix: rows 7, 8
#[test]
fn pannier_killed_at_any_call_of_an_import_leaves_only_whole_images_and_completes_when_run_again() {
    sweep(if all() { 1 } else { 13 }, |_, _, mut child, _| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

// fault-matrix: rows 59
#[test]
fn containerd_killed_at_any_call_of_an_import_leaves_only_whole_images_and_completes_when_run_again() {
    sweep(if all() { 1 } else { 17 }, |node, proxy, child, what| {
        node.kill();
        node.launch();
        proxy.disarm();
        proxy.release();
        let (status, said) = end(child);
        assert!(matches!(status, Some(0 | 6)), "{what}: {status:?}: {said}");
    });
}

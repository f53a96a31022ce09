//! Every call of an import, one after the other.

use std::process::Child;

use super::{all, begin, end, medium, swept_versions};
use crate::support::cluster::{import, versions};
use crate::support::node::Node;
use crate::support::node_state::{State, assert_only_whole_images, empty};
use crate::support::proxy::{At, Fault, Proxy};
use crate::support::swept;

/// Runs imports that go wrong at one moment after the other, `step` apart, until one ends before its
/// moment comes. `disturb` does the worst while the call is held, and sees to the end of the child.
fn sweep(disturbed: &str, step: usize, mut disturb: impl FnMut(&mut Node, &Proxy, Child, &str)) {
    let (_bench, medium) = medium();
    for version in swept_versions() {
        let mut node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        let mut moments = 0;
        for number in (1..).step_by(step) {
            empty(&node);
            proxy.arm(At::Timestamp(number), Fault::Hold);
            let mut child = begin(&proxy, &medium, &[]);
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
        swept(&format!("{disturbed} at calls of an import, containerd {version}"), moments);
        assert!(moments * step > 100, "only {moments} moments were tried");
    }
}

// fault-matrix: rows 7, 8
#[test]
fn pannier_killed_at_any_call_of_an_import_leaves_only_whole_images_and_completes_when_run_again() {
    if versions().is_empty() {
        return;
    }
    sweep("pannier killed", if all() { 1 } else { 13 }, |_, _, mut child, _| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

// fault-matrix: rows 59
#[test]
fn containerd_killed_at_any_call_of_an_import_leaves_only_whole_images_and_completes_when_run_again() {
    if versions().is_empty() {
        return;
    }
    sweep("containerd killed", if all() { 1 } else { 17 }, |node, proxy, child, what| {
        node.kill();
        node.launch();
        proxy.disarm();
        proxy.release();
        let (status, said) = end(child);
        assert!(matches!(status, Some(0 | 6)), "{what}: {status:?}: {said}");
    });
}

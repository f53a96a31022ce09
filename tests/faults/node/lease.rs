//! What keeps things on the node while no name does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pannier::import::{Options, carry_out, prepare};
use pannier::medium::Medium;
use pannier::node::{self, NodeOptions};
use pannier::progress::{Run, Silent, Stop};
use pannier::trust::Admitted;

use super::{begin, end, medium, swept_versions};
use crate::support::cluster::{import, versions};
use crate::support::node::Node;
use crate::support::node_state::{State, empty};
use crate::support::proxy::{At, Fault, Proxy};

/// Has containerd collect garbage all the time while something is done.
fn collecting<T>(node: &Node, work: impl FnOnce() -> T) -> T {
    let client = node.client();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                client.collect_garbage().unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

// fault-matrix: rows 62
#[test]
fn garbage_that_is_collected_all_the_time_takes_nothing_of_an_import() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        for call in ["Content/Write", "Snapshots/Commit", "Images/Create"] {
            empty(&node);
            proxy.arm(At::EveryMessage(call, 1), Fault::Delay(Duration::from_millis(40)));
            let (status, said) = collecting(&node, || end(begin(&proxy, &medium, &[])));
            assert_eq!(status, Some(0), "{version}, {call}: {said}");
            State::of(&node).assert_is(&expected, &format!("{version}, {call}"));
        }
    }
}

// fault-matrix: rows 63
#[test]
fn a_lease_that_would_end_in_the_middle_is_renewed() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in swept_versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        for call in ["Diff/Apply", "Images/Create"] {
            empty(&node);
            proxy.arm(At::Message(call, 2), Fault::Delay(Duration::from_secs(9)));
            let survey = NodeOptions {
                address: Some(proxy.socket()),
                namespace: "k8s.io".into(),
                lease: Some(Duration::from_secs(4)),
                ..NodeOptions::default()
            };
            let stop = Stop::default();
            let run = Run { reporter: &Silent, stop: &stop };
            let on_medium = Admitted::unchecked(Medium::open(&medium).unwrap());
            let surveyed = node::Node::survey(&survey).unwrap();
            let options = Options {
                images: Vec::new(),
                unpack: true,
                pin: true,
                repair: false,
                keep_going: false,
                discard_layers: false,
            };
            let done = collecting(&node, || {
                let prepared = prepare(&on_medium, &surveyed, &options, |_| {}, run)?;
                carry_out(&on_medium, &surveyed, prepared, &options, run)
            });
            let summary = done.unwrap_or_else(|error| panic!("{version}, {call}: {error}"));
            assert_eq!(summary.images, 2);
            let renewals = proxy.seen().iter().filter(|moment| *moment == ">Leases/Create").count();
            assert!(renewals >= 3, "{version}, {call}: {renewals} leases");
            State::of(&node).assert_is(&expected, &format!("{version}, {call}"));
        }
    }
}

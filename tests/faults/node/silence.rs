//! A containerd that does not answer, or goes away and comes back.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::{begin, end, medium, swept_versions};
use crate::support::carry::{pannier, text};
use crate::support::cluster::{import, versions};
use crate::support::node::Node;
use crate::support::node_state::{State, empty};
use crate::support::proxy::{At, Fault, Proxy};

/// Calls of different kinds: short, a stream, one that may take minutes, and CRI's.
const CALLS: [&str; 5] =
    ["Leases/Create", "Content/Write", "Diff/Apply", "Images/Create", "ImageService/ImageStatus"];

// fault-matrix: rows 61
#[test]
fn a_containerd_that_hangs_is_given_up_with_status_6_and_the_same_command_completes() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    import(0, &node, &medium, &[]);
    let expected = State::of(&node);
    let proxy = Proxy::before(&node);
    for call in CALLS {
        empty(&node);
        proxy.arm(At::Message(call, 1), Fault::Hold);
        let mut child = begin(&proxy, &medium, &["--timeout", "1"]);
        assert!(proxy.await_strike(|| child.try_wait().unwrap().is_some()).is_some(), "{call}");
        node.signal(Signal::STOP);
        proxy.release();
        let (status, said) = end(child);
        node.signal(Signal::CONT);
        assert_eq!(status, Some(6), "{call}: {said}");
        assert!(said.contains("no sign of life"), "{call}: {said}");
        import(0, &node, &medium, &[]);
        State::of(&node).assert_is(&expected, call);
    }
}

// fault-matrix: rows 61
#[test]
fn a_call_that_is_never_answered_is_given_up_though_containerd_lives() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    let proxy = Proxy::before(&node);
    for call in ["Leases/Create", "Images/Create", "ImageService/ImageStatus"] {
        empty(&node);
        proxy.arm(At::Message(call, 1), Fault::Hold);
        let (status, said) = end(begin(&proxy, &medium, &["--timeout", "1"]));
        assert_eq!(status, Some(6), "{call}: {said}");
        assert!(said.contains("has not answered"), "{call}: {said}");
        proxy.disarm();
        proxy.release();
        import(0, &node, &medium, &[]);
    }
}

// fault-matrix: rows 10, 61
#[test]
fn an_interruption_is_heard_while_containerd_hangs() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    let proxy = Proxy::before(&node);
    for call in CALLS {
        empty(&node);
        proxy.arm(At::Message(call, 1), Fault::Hold);
        // Had it waited for the silence to end, that would be status 6.
        let mut child = begin(&proxy, &medium, &[]);
        assert!(proxy.await_strike(|| child.try_wait().unwrap().is_some()).is_some(), "{call}");
        node.signal(Signal::STOP);
        proxy.release();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let (status, said) = end(child);
        node.signal(Signal::CONT);
        assert_eq!(status, Some(130), "{call}: {said}");
        import(0, &node, &medium, &[]);
    }
}

// fault-matrix: rows 61
#[test]
fn a_slow_call_of_a_containerd_that_lives_is_waited_for() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in swept_versions() {
        let node = Node::start(version);
        let proxy = Proxy::before(&node);
        for call in ["Diff/Apply", "Content/Write"] {
            empty(&node);
            proxy.arm(At::Answer(call, 2), Fault::Delay(Duration::from_secs(4)));
            let (status, said) = end(begin(&proxy, &medium, &["--timeout", "1"]));
            assert!(proxy.struck().is_some());
            assert_eq!(status, Some(0), "{version}, {call}: {said}");
        }
    }
}

// fault-matrix: rows 59
#[test]
fn a_containerd_that_is_restarted_is_waited_for_and_gone_on_with() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in versions() {
        let mut node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        for (call, number) in [("Content/Write", 4), ("Diff/Apply", 2), ("ImageService/ImageStatus", 2)] {
            empty(&node);
            proxy.arm(At::Message(call, number), Fault::Hold);
            let mut child = begin(&proxy, &medium, &[]);
            assert!(proxy.await_strike(|| child.try_wait().unwrap().is_some()).is_some(), "{call}");
            node.restart();
            proxy.disarm();
            proxy.release();
            let (status, said) = end(child);
            assert_eq!(status, Some(0), "{version}, {call}: {said}");
            State::of(&node).assert_is(&expected, &format!("{version}, {call}"));
        }
    }
}

// fault-matrix: rows 11, 12
#[test]
fn a_second_signal_ends_an_import_at_once_and_closed_standard_output_ends_none() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    let proxy = Proxy::before(&node);
    let socket = proxy.socket();
    let arguments = ["import", text(&medium), "--address", text(&socket), "--json"];
    proxy.arm(At::Message("Diff/Apply", 1), Fault::Hold);
    let mut child = begin(&proxy, &medium, &[]);
    assert!(proxy.await_strike(|| child.try_wait().unwrap().is_some()).is_some());
    let process = Pid::from_child(&child);
    kill_process(process, Signal::STOP).unwrap();
    waitpid(Some(process), WaitOptions::UNTRACED).unwrap();
    // Both are there before it can come to a safe point.
    for signal in [Signal::INT, Signal::TERM, Signal::CONT] {
        kill_process(process, signal).unwrap();
    }
    let (status, said) = end(child);
    assert_eq!(status, Some(130), "{said}");
    assert!(!said.contains("interrupted"), "it came to a safe point: {said}");
    proxy.disarm();
    proxy.release();
    let mut child = pannier(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let there = State::of(&node);
    empty(&node);
    import(0, &node, &medium, &[]);
    there.assert_is(&State::of(&node), "interrupted twice");
}

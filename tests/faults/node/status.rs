//! Answers that are refusals.

use pannier::containerd::Opened;
use pannier::medium::Medium;
use tonic::Code;

use super::{begin, end, medium};
use crate::support::cluster::{import, versions};
use crate::support::node::Node;
use crate::support::node_state::{State, empty};
use crate::support::proxy::{At, Fault, Proxy};

// fault-matrix: rows 60
#[test]
fn an_offset_that_containerd_does_not_accept_is_begun_again_once_and_then_given_up() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        let fault = Fault::Status(Code::OutOfRange, "write @5 must occur at current offset 7");
        for (kind, number) in
            [("Content/Write.write", 1), ("Content/Write.write", 5), ("Content/Write.commit", 2)]
        {
            empty(&node);
            proxy.arm(At::Message(kind, number), fault);
            let (status, said) = end(begin(&proxy, &medium, &[]));
            assert!(proxy.struck().is_some());
            assert_eq!(status, Some(0), "{version}, {kind} {number}: {said}");
            State::of(&node).assert_is(&expected, version);
        }
        empty(&node);
        proxy.arm(At::EveryMessage("Content/Write.write", 3), fault);
        let (status, said) = end(begin(&proxy, &medium, &[]));
        assert_eq!(status, Some(1), "{version}: {said}");
        assert!(said.contains("what containerd has of it is not what was sent"), "{version}: {said}");
        import(0, &node, &medium, &[]);
        State::of(&node).assert_is(&expected, version);
    }
}

// fault-matrix: rows 57, 59
#[test]
fn every_kind_of_refusal_ends_with_a_status_of_the_table_and_the_same_command_completes() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let Some(version) = versions().pop() else { return };
    let node = Node::start(version);
    import(0, &node, &medium, &[]);
    let expected = State::of(&node);
    let proxy = Proxy::before(&node);
    let full = "write /x: no space left on device";
    let cases = [
        ("Content/Write", Code::Unavailable, "server is stopping", 6, 0),
        ("Diff/Apply", Code::Unavailable, "server is stopping", 6, 0),
        ("Images/Create", Code::Unavailable, "server is stopping", 6, 0),
        ("Leases/Create", Code::Unavailable, "server is stopping", 6, 6),
        ("Content/Write", Code::ResourceExhausted, "received message larger than max", 1, 1),
        ("Snapshots/Prepare", Code::Internal, "bolt is broken", 1, 1),
        ("Images/Create", Code::Internal, "bolt is broken", 1, 1),
        ("ImageService/ImageStatus", Code::Unknown, "a panic", 1, 1),
        ("Content/Write", Code::Unknown, full, 5, 5),
        ("Diff/Apply", Code::Unknown, full, 5, 5),
        ("Snapshots/Commit", Code::Unknown, full, 5, 5),
    ];
    for (call, code, words, always, once) in cases {
        // The first of these is the sign that the import runs, which comes with its lease and like that is not
        // tried again.
        let first = if call == "Content/Write" { 2 } else { 1 };
        for (at, expected_status) in [(At::EveryMessage(call, 1), always), (At::Message(call, first), once)] {
            empty(&node);
            proxy.arm(at, Fault::Status(code, words));
            let (status, said) = end(begin(&proxy, &medium, &["--timeout", "2"]));
            let what = format!("{at:?}, {code:?}: {said}");
            assert!(proxy.struck().is_some(), "{what}");
            assert_eq!(status, Some(expected_status), "{what}");
            assert!(status == Some(0) || said.contains(words), "{what}");
            import(0, &node, &medium, &[]);
            State::of(&node).assert_is(&expected, &what);
        }
    }
}

// fault-matrix: rows 57
#[test]
fn a_blob_that_another_client_writes_is_waited_for_without_trying_its_lock_all_the_time() {
    if versions().is_empty() {
        return;
    }
    let (_bench, medium) = medium();
    let blob = {
        let opened = Medium::open(&medium).unwrap();
        opened.record().unwrap().layers[0].encodings[0].clone()
    };
    let reference = format!("pannier-{}", blob.digest);
    for version in versions() {
        let node = Node::start(version);
        import(0, &node, &medium, &[]);
        let expected = State::of(&node);
        let proxy = Proxy::before(&node);
        for frees_it in [true, false] {
            empty(&node);
            let other = node.client();
            let Opened::Ingest(ingest) = other.open_ingest(&reference, &blob).unwrap() else { panic!() };
            proxy.arm(At::Message("Content/Status", 1), Fault::Hold);
            let timeout = if frees_it { "30" } else { "1" };
            let mut child = begin(&proxy, &medium, &["--timeout", timeout]);
            let waited = proxy.await_strike(|| child.try_wait().unwrap().is_some());
            assert!(waited.is_some(), "{version}: it waits");
            let mut ingest = Some(ingest);
            if frees_it {
                ingest.take();
            }
            proxy.release();
            let (status, said) = end(child);
            if frees_it {
                assert_eq!(status, Some(0), "{version}: {said}");
                State::of(&node).assert_is(&expected, version);
            } else {
                assert_eq!(status, Some(1), "{version}: {said}");
                assert!(said.contains("another client holds"), "{version}: {said}");
                let opened = proxy.seen().iter().filter(|moment| *moment == ">Content/Write.stat").count();
                let looked = proxy.seen().iter().filter(|moment| *moment == ">Content/Status").count();
                // The other blobs are opened once each.
                assert!(opened <= 9 + 3 && looked >= 8, "{version}: opened {opened}, looked {looked}");
            }
            drop(ingest);
            import(0, &node, &medium, &[]);
        }
    }
}

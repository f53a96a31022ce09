//! Registries that lie: what they say of themselves, how long they answer, where they send us.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::maker::{Draft, MANIFEST, bounded, is_plain};
use crate::support::carry::text;
use crate::support::registry::{Faulty, reply};

/// Exports `image` from a registry without TLS; the exit status and what was said.
fn export(registry: &str) -> (i32, String) {
    let to = tempfile::tempdir().unwrap();
    let image = format!("{registry}/a/b:1");
    let output = bounded([
        "export",
        &image,
        "--platform",
        "linux/amd64",
        "--insecure",
        registry,
        "--retries",
        "0",
        "--to",
        text(to.path()),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(is_plain(&said), "{said:?}");
    assert!(!to.path().join(".pannier/commits/0000000001.json").exists());
    (output.status.code().unwrap_or(-1), said)
}

/// A server that answers every request with this head, and then with bytes for as long as somebody reads.
fn endless(head: &'static str) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let count = count.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut first = String::new();
                reader.read_line(&mut first).unwrap();
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
                    line.clear();
                }
                if first.contains(" /v2/ ") {
                    let _ = stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n");
                    return;
                }
                let chunked = head.contains("chunked");
                let _ = stream.write_all(head.as_bytes());
                let piece = [b' '; 1 << 16];
                loop {
                    let written = if chunked {
                        stream
                            .write_all(b"10000\r\n")
                            .and_then(|()| stream.write_all(&piece))
                            .and_then(|()| stream.write_all(b"\r\n"))
                    } else {
                        stream.write_all(&piece)
                    };
                    if written.is_err() {
                        return;
                    }
                    count.fetch_add(piece.len() as u64, Ordering::SeqCst);
                }
            });
        }
    });
    (name, sent)
}

#[test]
fn a_manifest_without_length_and_without_end() {
    for head in [
        "HTTP/1.1 200 X\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 1099511627776\r\n\r\n",
    ] {
        let (registry, sent) = endless(head);
        let (status, said) = export(&registry);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains("larger than the 4194304 bytes"), "{said}");
        // What the kernel holds on both sides of the connection is sent as well.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 64 << 20, "{sent}");
    }
}

#[test]
fn an_error_that_has_no_end() {
    let (registry, sent) = endless("HTTP/1.1 500 X\r\nContent-Type: application/json\r\n\r\n");
    let (status, said) = export(&registry);
    assert_eq!(status, 6, "{said}");
    assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

#[test]
fn redirects_to_files_other_schemes_and_in_a_circle() {
    for (to, reason) in [
        ("file:///etc/shadow", "redirects to nowhere"),
        ("ftp://127.0.0.1/x", "redirects to nowhere"),
        ("data:application/json,{}", "redirects to nowhere"),
        ("gopher://127.0.0.1:70/x", "redirects to nowhere"),
        ("/v2/a/b/manifests/1", "redirects too often"),
    ] {
        let server = Faulty::start(move |asked| {
            if asked.path == "/v2/" { reply(200, "") } else { reply(307, "").with("Location", to) }
        });
        let (status, said) = export(&server.name());
        assert_eq!(status, 1, "{to}: {said}");
        assert!(said.contains(reason), "{to}: {said}");
        assert!(!said.contains("root:"), "{said}");
    }
}

#[test]
fn manifests_that_are_read_strictly_and_names_that_are_printed_plainly() {
    let made = Draft::default().make();
    let right = made.blobs[&made.root.digest].0.clone();
    let text = String::from_utf8(right).unwrap();
    for (body, reason) in [
        (text.replacen('{', r#"{"Layers":[],"#, 1), "in other letters"),
        (text.replacen('{', r#"{"layers":[],"#, 1), "is there twice"),
        ("[".repeat(100_000), "nested more than 64 deep"),
        (format!("{text}{text}"), "trailing characters"),
    ] {
        let server = Faulty::start(move |asked| {
            if asked.path == "/v2/" {
                reply(200, "")
            } else {
                reply(200, body.as_str()).with("Content-Type", MANIFEST)
            }
        });
        let (status, said) = export(&server.name());
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(reason), "{reason}: {said}");
    }
    let server = Faulty::start(|asked| {
        let hostile = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\\u001b[2J\\u202e\\nowned\"}]}";
        if asked.path == "/v2/" {
            reply(200, "")
        } else {
            reply(403, hostile).with("Content-Type", "application/json")
        }
    });
    let (_, said) = export(&server.name());
    assert!(said.contains("owned"), "{said}");
}

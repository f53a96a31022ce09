//! Requests and clients that mean no good.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pannier::image::Digest;

use crate::mirror::{KEPT, Mirror, Room, reply};

#[test]
fn nothing_beside_the_medium_can_be_had() {
    let room = Room::new();
    std::fs::write(room.path("secret"), "the secret").unwrap();
    let mirror = Mirror::of(&room.medium(), &[]);
    let digest = Digest::of(b"x").hex();
    for target in [
        "/../secret",
        "/v2/../../secret",
        "/v2/..%2f..%2fsecret",
        "/v2/app/blobs/../../../secret",
        "/v2/app/blobs/sha256:../../../secret",
        "/v2/app/blobs/sha256:%2e%2e%2f%2e%2e%2fsecret",
        "/v2/app/manifests/..%2f..%2f..%2fsecret",
        "/v2/app/manifests/%00",
        "/v2/app/manifests/1?ns=..%2f..",
        "/.pannier/commits/0000000001.json",
        "/oci-layout",
        "/index.json",
        "//etc/passwd",
        "/v2/etc/passwd/manifests/x",
        "http://other/v2/etc/passwd/tags/list",
        &format!("/v2/app/blobs/sha256:{}", digest.to_uppercase()),
        &format!("/v2/app/blobs/sha512:{digest}"),
        &format!("/v2/app/referrers/sha256:{digest}/../../../secret"),
    ] {
        let reply = mirror.get(target);
        assert!((400..500).contains(&reply.status), "{target}: {reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("the secret"), "{target}");
    }
    // The digest of a file beside the medium is none of a blob.
    let secret = Digest::of(b"the secret");
    assert_eq!(mirror.get(&format!("/v2/app/blobs/{secret}")).status, 404);
}

#[test]
fn what_is_no_request_gets_no_answer_but_a_refusal() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let long = |name: &str, length: usize| {
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{name}: {}\r\n\r\n", "a".repeat(length))
    };
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "a".repeat(100_000));
    for bytes in [
        long("X", 1 << 20).as_bytes(),
        many.as_bytes(),
        target.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: a\nb\0c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz\r\n\r\n",
    ] {
        let answer = mirror.raw(bytes);
        let start = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
        let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(answer.is_empty() || start.starts_with("HTTP/1.1 4"), "{sent:?}: {start}");
    }
    assert_eq!(mirror.get("/healthz").status, 200);
}

#[test]
fn a_body_is_not_taken_for_the_next_request() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &[]);
    let hidden = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let length = hidden.len();
    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
    for request in [
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        // Both lengths: refused, or the chunks count (RFC 9112, section 6.3).
        format!(
            "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        ),
        format!("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}"),
    ] {
        let answer = mirror.raw(request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("pannier_requests_total"), "{request}\n\n{answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
    }
    assert!(mirror.requests().iter().all(|request| !request.contains("/metrics")));
}

#[test]
fn clients_that_are_slow_are_given_up_and_others_are_served() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &["--header-timeout", "1", "--send-timeout", "1"]);
    // One says nothing, one never ends its headers, one rests after its request, one takes nothing.
    let silent = mirror.connect();
    let mut dripping = mirror.connect();
    dripping.write_all(b"GET /healthz HTTP/1.1\r\nX: ").unwrap();
    let mut resting = mirror.connect();
    resting.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let layer = room.layout.find(KEPT).manifests[0].layers[0].digest;
    let mut full = mirror.connect();
    let request = format!("GET /v2/team/kept/blobs/{layer} HTTP/1.1\r\nHost: x\r\n\r\n");
    // More than the buffers of both ends hold, in one connection.
    for _ in 0..20 {
        full.write_all(request.as_bytes()).unwrap();
    }
    assert_eq!(mirror.get("/healthz").status, 200);
    for (mut stream, name) in [(silent, "silent"), (dripping, "dripping"), (resting, "resting")] {
        let mut answer = Vec::new();
        // It comes to its end, since the server closes it.
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    while !mirror
        .log()
        .iter()
        .any(|line| line["cut"].as_str().is_some_and(|cut| cut.contains("took nothing")))
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(mirror.get("/healthz").status, 200);
}

#[test]
fn many_idle_connections_do_not_keep_others_out() {
    let room = Room::new();
    let mirror = Mirror::of(&room.medium(), &["--max-connections", "40", "--max-per-address", "20"]);
    let idle: Vec<TcpStream> = (0..200).map(|_| mirror.connect()).collect();
    // What is beyond the address's share is closed at once.
    let mut closed = 0;
    for stream in &idle {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut byte = [0];
        if matches!((&mut &*stream).read(&mut byte), Ok(0) | Err(_)) && stream.peek(&mut byte).is_ok() {
            closed += 1;
        }
    }
    assert!(closed >= 180, "{closed}");
    // Another address is served meanwhile.
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    rustix::net::connect(&socket, &mirror.address).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(reply(&answer).status, 200);
    drop(idle);
}

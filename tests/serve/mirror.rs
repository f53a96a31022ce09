//! A mirror that runs, and raw requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pannier::medium::Medium;
use pannier::record::{Image, Record};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::carry::{oci, pannier, run, text};
use crate::support::layout::{Layout, files, image, index, layout, noise, unnamed};

/// Recompressed, so that its tag points at what is carried.
pub(crate) const APP: &str = "docker.io/library/app:1";
/// Two platforms.
pub(crate) const BOTH: &str = "registry.local/team/both:2";
/// As upstream has it, so that its tag points at upstream's digest.
pub(crate) const KEPT: &str = "registry.local/team/kept:3";

/// Three images on a medium.
pub(crate) struct Room {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) record: Record,
    pub(crate) layout: Layout,
}

impl Room {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = noise("data", 1, 3_000_000);
        let both = index(BOTH)
            .with(unnamed().layer(base.clone()).layer(files([("arch", "amd64")])))
            .with(unnamed().platform("linux/arm64").layer(files([("arch", "arm64")])));
        let layout = layout()
            .with(image(APP).docker().layer(base).layer(files([("etc/app", "1")])))
            .with(both)
            .with(image(KEPT).layer(noise("kept", 2, 2_500_000)).gzip_level(9));
        layout.write_dir(&directory.path().join("layout"));
        let (from, to) = (oci(&directory.path().join("layout")), directory.path().join("m"));
        let common = ["export", "--from", &from, "--to", text(&to), "--platform", "linux/amd64"];
        run(0, common.into_iter().chain(["--platform", "linux/arm64", BOTH]));
        run(0, common.into_iter().chain([APP]));
        run(0, common.into_iter().chain(["--compression", "none", KEPT]));
        let record = Medium::open(&to).unwrap().record().unwrap().clone();
        Self { directory, record, layout }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn medium(&self) -> PathBuf {
        self.path("m")
    }

    pub(crate) fn image(&self, name: &str) -> &Image {
        let named = |image: &&Image| image.names.iter().any(|own| own.to_string() == name);
        self.record.images.iter().find(named).unwrap()
    }

    /// The file of a blob.
    pub(crate) fn blob(&self, digest: pannier::image::Digest) -> PathBuf {
        self.medium().join("blobs/sha256").join(digest.hex())
    }
}

/// A `pannier serve` that runs; it is ended by its process id.
pub(crate) struct Mirror {
    child: Child,
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<Value>>>,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The error code and message of the distribution specification.
    pub(crate) fn error(&self) -> (String, String) {
        let document = self.json();
        let error = &document["errors"][0];
        (error["code"].as_str().unwrap().into(), error["message"].as_str().unwrap().into())
    }
}

impl Mirror {
    pub(crate) fn of(medium: &Path, more: &[&str]) -> Self {
        Self::start(&[&[text(medium)], more].concat())
    }

    pub(crate) fn start(arguments: &[&str]) -> Self {
        let common = ["serve", "--json", "--listen", "127.0.0.1:0"];
        let mut command = pannier(common.into_iter().chain(arguments.iter().copied()));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = lines.clone();
        std::thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                collected.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, address: first["address"].as_str().unwrap().parse().unwrap(), lines }
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that were logged up to now: those that are over.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Method and target of them, without health checks.
    pub(crate) fn requests(&self) -> Vec<String> {
        let text = |line: &Value| {
            format!("{} {}", line["method"].as_str().unwrap(), line["target"].as_str().unwrap())
        };
        self.log().iter().map(text).collect()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends these bytes and reads to the end of the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // A server that has heard enough closes before everything is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// One request with these headers, on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\n");
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        reply(&self.raw(format!("{request}\r\n").as_bytes()))
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[])
    }

    pub(crate) fn signal(&self) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::TERM).unwrap();
    }

    /// Asks it to end, and waits; its exit status.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.signal();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Splits the bytes of one answer.
pub(crate) fn reply(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: bytes[end + 4..].to_vec() }
}

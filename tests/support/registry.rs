//! Registries, a proxy, a cutting wire and a faulty server, all on loopback and gone with the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where a program is: on the path, or among the tools unpacked under `target/tools`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin".into(), "/sbin".into()]);
    places.push(super::node::tools().join(name).join("usr/bin"));
    places.into_iter().map(|place| place.join(name)).find(|file| file.is_file())
}

/// Whether all of these programs are there. Says so when not; that is a failure under `CI=true`.
pub(crate) fn have(programs: &[&str]) -> bool {
    for name in programs {
        if program(name).is_none() {
            super::skipped(&format!("{name} is not installed; run tests/setup/install.sh peers"));
            return false;
        }
    }
    true
}

/// Runs a program to its end; panics with what it said when it fails.
pub(crate) fn run(name: &str, arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(program(name).unwrap())
        .args(arguments)
        .env("HOME", home.path())
        .env_remove("HTTPS_PROXY")
        .env_remove("HTTP_PROXY")
        .env_remove("https_proxy")
        .env_remove("http_proxy")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program that is killed by its process id when the test is done with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(mut command: Command, port: u16) -> Running {
    let mut running = Running(command.stdin(Stdio::null()).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(running.0.try_wait().unwrap().is_none(), "{command:?} ended");
        assert!(Instant::now() < deadline, "{command:?} does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    running
}

/// How a registry is set up.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// A user and password that it wants.
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// A certificate it serves by.
    pub(crate) tls: Option<&'a Authority>,
    /// The token server it sends its clients to, and the certificate that signs the tokens.
    pub(crate) port: Option<u16>,
    /// Where it sends its clients for blobs, by the paths of its storage.
    pub(crate) redirect: Option<&'a str>,
}

/// Debian's docker-registry.
pub(crate) struct Server {
    _running: Running,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) fn start(setup: Setup<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let port = setup.port.unwrap_or_else(free_port);
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  \
             filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            at("storage").display()
        );
        if let Some(authority) = setup.tls {
            let (certificate, key) = authority.issue(directory.path());
            config +=
                &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        }
        if let Some(base) = setup.redirect {
            config += &format!(
                "middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: {base}\n"
            );
        }
        if let Some((user, password)) = setup.login {
            let entry = run("htpasswd", &["-Bbn", user, password]);
            fs::write(at("htpasswd"), entry).unwrap();
            config +=
                &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd").display());
        }
        fs::write(at("config.yml"), config).unwrap();
        let mut command = Command::new(program("docker-registry").unwrap());
        command.arg("serve").arg(at("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _running: start(command, port), port, directory }
    }

    /// The registry's name in references.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A private CA.
pub(crate) struct Authority {
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=Test CA",
                "-keyout",
                &at("ca.key"),
                "-out",
                &at("ca.crt"),
            ],
        );
        Self { directory }
    }

    /// The CA's own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for `registry.test`, `localhost` and `127.0.0.1`, and its key.
    pub(crate) fn issue(&self, into: &Path) -> (PathBuf, PathBuf) {
        let at = |name: &str| into.join(name).display().to_string();
        let names =
            "subjectAltName=DNS:registry.test,DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        fs::write(at("names"), names).unwrap();
        let ca = self.certificate().display().to_string();
        let ca_key = self.directory.path().join("ca.key").display().to_string();
        run(
            "openssl",
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                "/CN=registry.test",
                "-keyout",
                &at("tls.key"),
                "-out",
                &at("tls.csr"),
            ],
        );
        run(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                &at("tls.csr"),
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &at("names"),
                "-out",
                &at("tls.crt"),
            ],
        );
        (into.join("tls.crt"), into.join("tls.key"))
    }
}

/// A real squid that alone knows where `registry.test` is.
pub(crate) struct Squid {
    _running: Running,
    pub(crate) port: u16,
    directory: TempDir,
}

impl Squid {
    /// With `login`, it wants that user and password.
    pub(crate) fn start(login: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).display().to_string();
        // squid gives up root and writes its logs as another user.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(directory.path(), mode).unwrap();
        fs::write(at("hosts"), "127.0.0.1 registry.test\n").unwrap();
        let port = free_port();
        let access = match login {
            None => "http_access allow all\n".to_owned(),
            Some((user, password)) => {
                fs::write(at("users"), run("htpasswd", &["-mbn", user, password])).unwrap();
                format!(
                    "auth_param basic program /usr/lib/squid/basic_ncsa_auth {}\nacl known proxy_auth REQUIRED\n\
                     http_access allow known\nhttp_access deny all\n",
                    at("users")
                )
            }
        };
        let config = format!(
            "http_port 127.0.0.1:{port}\nhosts_file {}\npid_filename none\ncache deny all\n\
             access_log stdio:{} squid\ncache_log {}\nshutdown_lifetime 0 seconds\n{access}",
            at("hosts"),
            at("access.log"),
            at("cache.log")
        );
        fs::write(at("squid.conf"), config).unwrap();
        let mut command = Command::new(program("squid").unwrap());
        command.args(["-N", "-n", &service(port), "-f", &at("squid.conf")]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self { _running: start(command, port), port, directory }
    }

    /// What it logged: one line a request or tunnel that is over.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        // Whoever only looks whether squid listens is logged as well.
        let asked = log.lines().filter(|line| !line.contains("transaction-end-before-headers"));
        asked.map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Squid {
    fn drop(&mut self) {
        // It is killed, and so leaves its shared memory.
        for part in ["metadata", "queues", "readers"] {
            let _ = fs::remove_file(format!("/dev/shm/{}-cf__{part}.shm", service(self.port)));
        }
    }
}

/// The name of the squid at this port. Its shared memory has that name, and one that another user left would be in
/// the way.
fn service(port: u16) -> String {
    format!("pannier{port}")
}

/// What a wire does with one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is carried to its end.
    Whole,
    /// It is closed when this many bytes went from the server to the client.
    CutAfter(u64),
    /// Nothing more comes after this many bytes, though it stays open.
    StallAfter(u64),
}

/// A TCP proxy that cuts or stalls connections, and counts what the server's side sent.
pub(crate) struct Wire {
    pub(crate) port: u16,
    /// Bytes passed on to clients.
    pub(crate) passed: Arc<AtomicU64>,
    /// Connections that met an early end.
    pub(crate) broken: Arc<AtomicU64>,
}

impl Wire {
    /// Passes connections on to `port`; `fate` is asked for each with its number, from 0.
    pub(crate) fn to(port: u16, fate: impl Fn(u64) -> Fate + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            passed: Arc::default(),
            broken: Arc::default(),
        };
        let (passed, broken) = (wire.passed.clone(), wire.broken.clone());
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let fate = fate(number as u64);
                let (passed, broken) = (passed.clone(), broken.clone());
                thread::spawn(move || carry(client, server, fate, &passed, &broken));
            }
        });
        wire
    }

    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn carry(client: TcpStream, server: TcpStream, fate: Fate, passed: &AtomicU64, broken: &AtomicU64) {
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let limit = match fate {
        Fate::Whole => u64::MAX,
        Fate::CutAfter(bytes) | Fate::StallAfter(bytes) => bytes,
    };
    let (mut client, mut server) = (client, server);
    let mut sent = 0;
    let mut buffer = vec![0; 64 << 10];
    while sent < limit {
        let most = buffer.len().min(usize::try_from(limit - sent).unwrap_or(usize::MAX));
        let n = match server.read(&mut buffer[..most]) {
            Ok(n) if n > 0 => n,
            _ => break,
        };
        if client.write_all(&buffer[..n]).is_err() {
            break;
        }
        sent += n as u64;
        passed.fetch_add(n as u64, Ordering::SeqCst);
    }
    if sent == limit {
        broken.fetch_add(1, Ordering::SeqCst);
        if matches!(fate, Fate::StallAfter(_)) {
            // Until the client gives up.
            let _ = client.read(&mut buffer);
            thread::sleep(Duration::from_secs(60));
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

/// A request as the faulty server sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// An answer of the faulty server.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: Vec::new(), body: body.into() }
}

impl Reply {
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A server that answers as it is told: for faults that no real registry shows on demand.
pub(crate) struct Faulty {
    pub(crate) port: u16,
    /// Everything it was asked, in order.
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Faulty {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, answer) = (asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                thread::spawn(move || converse(stream, &log, &*answer));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many requests had `part` in their path.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(part)).count()
    }
}

fn converse(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let mut words = line.split_whitespace();
        let mut asked =
            Asked { method: words.next()?.into(), path: words.next()?.into(), ..Asked::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = asked.headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        asked.body = String::from_utf8_lossy(&body).into_owned();
        log.lock().unwrap().push(asked.clone());
        let reply = answer(&asked);
        let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if asked.method != "HEAD" {
            stream.write_all(&reply.body).ok()?;
        }
    }
}

//! What containerd tells, over its socket and in its configuration.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{Condition, Containerd, Sandbox, Snapshotter, Socket};
use crate::containerd::{Client, Version, kubelet_endpoint, well_known_sockets};
use crate::error::{Error, Result, Side};
use crate::node::{self, Node, NodeOptions};
use crate::sysroot;

/// How long containerd may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// The namespace of Kubernetes.
const NAMESPACE: &str = "k8s.io";
/// containerd's configuration, unless it was started with another.
const CONFIG: &str = "/etc/containerd/config.toml";

/// A socket, and the connection if there is one.
pub(super) struct Reached {
    pub(super) socket: Socket,
    pub(super) client: Option<Client>,
}

/// Finds the socket: `address`, else kubelet's, else the first well-known one that serves CRI, else
/// what comes closest to one that works.
pub(super) fn reach(address: Option<&Path>, system: &Path) -> Reached {
    let candidates: Vec<PathBuf> = match address {
        Some(path) => vec![path.to_owned()],
        None => match kubelet_endpoint(&system.join("proc")) {
            Some(path) => vec![path],
            None => {
                well_known_sockets().map(|path| sysroot::resolve(system, path).unwrap_or(path.into())).into()
            }
        },
    };
    let mut best: Option<Reached> = None;
    for path in candidates.iter().filter(|path| path.exists()) {
        let reached = try_socket(path);
        let cri = |reached: &Reached| {
            reached.client.as_ref().is_some_and(|client| matches!(client.cri_runtime(), Ok(Some(_))))
        };
        if cri(&reached) {
            return reached;
        }
        if best.as_ref().is_none_or(|best| best.client.is_none() && reached.client.is_some()) {
            best = Some(reached);
        }
    }
    best.unwrap_or(Reached { socket: Socket::Missing(candidates), client: None })
}

fn try_socket(path: &Path) -> Reached {
    let without = |socket| Reached { socket, client: None };
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return without(Socket::Denied(path.into()));
        }
        Err(error) => return without(Socket::Silent(path.into(), error.to_string())),
        Ok(_) => {}
    }
    // One that hangs takes the call and never answers; the thread is left to it.
    let (sender, receiver) = mpsc::channel();
    let asked = path.to_owned();
    std::thread::spawn(move || {
        let answer = Client::connect(&asked, NAMESPACE, Side::Node).and_then(|client| {
            client.version()?;
            Ok(client)
        });
        // Nobody waits any longer for one that comes too late.
        let _ = sender.send(answer);
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(client)) => Reached { socket: Socket::Answers(path.into()), client: Some(client) },
        Ok(Err(error)) => without(Socket::Silent(path.into(), error.with_cause())),
        Err(_) => without(Socket::Silent(path.into(), format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// The node as an import sees it, if one could begin.
pub(super) fn survey(reached: &Reached, containerd: Option<&Containerd>) -> Option<Node> {
    let address = reached.client.as_ref()?.address().to_owned();
    let wishes = NodeOptions {
        address: Some(address),
        namespace: NAMESPACE.into(),
        no_cri: !containerd?.cri,
        ..NodeOptions::default()
    };
    Node::survey(&wishes).ok()
}

/// Asks containerd about itself; `None` when it goes away meanwhile.
pub(super) fn ask(client: &Client, system: &Path) -> Option<Containerd> {
    let version = client.version().ok()?;
    let cri = matches!(client.cri_runtime(), Ok(Some(_)));
    let (dead_leases, left_ingests) = node::left_behind(client).unwrap_or_default();
    Some(Containerd {
        conditions: if cri { conditions(client).unwrap_or_default() } else { Vec::new() },
        snapshotter: cri.then(|| snapshotter(client)).and_then(Result::ok),
        sandbox: if cri { sandbox(client, &version, system) } else { Sandbox::Unknown("CRI is off".into()) },
        version,
        cri,
        dead_leases,
        left_ingests,
    })
}

fn conditions(client: &Client) -> Result<Vec<Condition>> {
    let condition = |(name, holds, message)| Condition { name, holds, message };
    Ok(client.cri_conditions()?.into_iter().map(condition).collect())
}

fn snapshotter(client: &Client) -> Result<Snapshotter> {
    let plugins = client.plugins()?;
    let names = node::cri_snapshotters(&client.cri_image_roots()?, &plugins);
    let name = names.first().cloned().ok_or_else(|| Error::not_found(Side::Node, "a snapshotter"))?;
    let plugin =
        plugins.iter().find(|plugin| plugin.kind == "io.containerd.snapshotter.v1" && plugin.id == name);
    let failure = match plugin {
        Some(plugin) => plugin.failure.clone(),
        None => Some("containerd has no such snapshotter".into()),
    };
    Ok(Snapshotter { name, failure })
}

/// Which image pods' sandboxes run: CRI of containerd 1.x tells, later ones only in their configuration.
fn sandbox(client: &Client, version: &Version, system: &Path) -> Sandbox {
    let told = client.cri_config().ok().flatten().and_then(|json| {
        let config: serde_json::Value = serde_json::from_str(&json).ok()?;
        config["sandboxImage"].as_str().map(str::to_owned)
    });
    let name = match told.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => {
            let path = configuration(client.address(), system);
            let path = sysroot::resolve(system, &path).unwrap_or(path);
            match fs::read_to_string(&path) {
                Ok(text) => match configured_sandbox(&text) {
                    Some(name) => name,
                    None => {
                        return Sandbox::Unknown(format!(
                            "{} does not name it, and the default of {} is not known here",
                            path.display(),
                            version.text
                        ));
                    }
                },
                Err(error) => return Sandbox::Unknown(format!("{}: {error}", path.display())),
            }
        }
    };
    match client.cri_image(&name) {
        Ok(Some(_)) => Sandbox::Present(name),
        Ok(None) => Sandbox::Missing(name),
        Err(error) => Sandbox::Unknown(error.to_string()),
    }
}

/// The file that the process behind a socket was started with.
fn configuration(socket: &Path, system: &Path) -> PathBuf {
    let named = UnixStream::connect(socket).ok().and_then(|stream| {
        let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
        let line = fs::read(system.join(format!("proc/{}/cmdline", peer.pid.as_raw_nonzero()))).ok()?;
        let words: Vec<&str> =
            line.split(|b| *b == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
        named_configuration(&words)
    });
    named.unwrap_or_else(|| CONFIG.into())
}

fn named_configuration(words: &[&str]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--config" | "-c" => return words.next().map(PathBuf::from),
            word => match word.strip_prefix("--config=") {
                Some(path) => return Some(path.into()),
                None => continue,
            },
        }
    }
    None
}

/// The sandbox image in a configuration of any version.
fn configured_sandbox(text: &str) -> Option<String> {
    let config: toml::Table = text.parse().ok()?;
    let plugins = config.get("plugins")?;
    let images = plugins.get("io.containerd.cri.v1.images").and_then(|images| images.get("pinned_images"));
    let old = ["io.containerd.grpc.v1.cri", "cri"]
        .into_iter()
        .find_map(|name| plugins.get(name)?.get("sandbox_image"));
    images.and_then(|images| images.get("sandbox")).or(old)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_image_is_read_from_configurations_of_all_versions() {
        for text in [
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = 'p:1'\n",
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'p:1'\n",
            "[plugins.cri]\nsandbox_image = 'p:1'\n",
        ] {
            assert_eq!(configured_sandbox(text).as_deref(), Some("p:1"), "{text}");
        }
        for text in ["", "version = 3\n", "[plugins.x]\nsandbox_image = 'p:1'\n", "["] {
            assert_eq!(configured_sandbox(text), None, "{text}");
        }
    }

    #[test]
    fn the_configuration_is_the_one_that_was_named() {
        for words in
            [["c", "--config", "/x"].as_slice(), &["c", "--config=/x"], &["c", "-l", "debug", "-c", "/x"]]
        {
            assert_eq!(named_configuration(words), Some("/x".into()));
        }
        assert_eq!(named_configuration(&["c", "--log-level", "debug"]), None);
    }

    #[test]
    fn a_socket_that_is_missing_denied_or_silent_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let found = |path: &Path| reach(Some(path), Path::new("/")).socket;
        assert_eq!(found(&path), Socket::Missing(vec![path.clone()]));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(matches!(found(&path), Socket::Silent(..)), "nobody listens any more");
    }
}

//! What containerd tells, over its socket and in its configuration.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{Condition, Containerd, Snapshotter, Socket};
use crate::containerd::{Client, Configuration, Process, Version, kubelet_endpoint, well_known_sockets};
use crate::error::{Error, Result, Side};
use crate::node::{self, Node, NodeOptions, Sandbox};
use crate::sysroot;

/// How long containerd may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// The namespace of Kubernetes.
const NAMESPACE: &str = "k8s.io";
/// The folders of mirrors from 2.2 on, where none is named (containerd, `plugins/cri/images`).
const MIRRORS: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";
/// The programs that are asked before a pull, from 2.0 on (containerd, `image-verifier`).
const VERIFIERS: &str = "/opt/containerd/image-verifier/bin";

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
            reached.client.as_ref().is_some_and(|client| matches!(client.serves_cri(), Ok(true)))
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
    let options = NodeOptions {
        address: Some(address),
        namespace: NAMESPACE.into(),
        no_cri: !containerd?.cri,
        ..NodeOptions::default()
    };
    Node::survey(&options).ok()
}

/// Asks containerd about itself; `None` when it goes away meanwhile.
pub(super) fn ask(client: &Client, system: &Path) -> Option<Containerd> {
    let version = client.version().ok()?;
    // One that is starting says nothing else yet.
    let cri = matches!(client.await_cri(PATIENCE), Ok(Some(_)));
    let (dead_leases, left_ingests) = node::left_behind(client).unwrap_or_default();
    let (mirrors, verifiers) = pulls(client, &version, system);
    Some(Containerd {
        conditions: if cri { conditions(client).unwrap_or_default() } else { Vec::new() },
        snapshotter: cri.then(|| snapshotter(client)).and_then(Result::ok),
        sandbox: if cri {
            Sandbox::of(client, &version, system)
        } else {
            Sandbox::Unknown("CRI is off".into())
        },
        version,
        cri,
        mirrors,
        verifiers,
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

/// What containerd's configuration says of pulls: the folders of mirrors as they are written, and the folder of
/// programs that are asked about an image, if there are any.
fn pulls(client: &Client, version: &Version, system: &Path) -> (Option<String>, Option<PathBuf>) {
    let path = Process::behind(client.address()).configuration(system);
    let configuration = Configuration::read(system, &path, Some(version)).unwrap_or_default();
    let default = (version.numbers >= (2, 2, 0)).then_some(MIRRORS);
    let mirrors = configuration.mirror_folders().or(default).map(str::to_owned);
    let default = (version.numbers >= (2, 0, 0)).then_some(Path::new(VERIFIERS));
    let verifiers = configuration.verifiers().or(default).filter(|folder| {
        let folder = sysroot::resolve(system, folder).unwrap_or_else(|| folder.to_path_buf());
        std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
    });
    (mirrors, verifiers.map(Path::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

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

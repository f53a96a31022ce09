//! Which socket: what was asked for, what kubelet is told, or where distributions put it.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Client;
use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// How long one of several containerds may give no sign of life when a socket is looked for.
const PROBING: Duration = Duration::from_secs(5);

/// Sockets of Kubernetes distributions, in the order in which they are tried.
///
/// containerd's own and kubeadm, Canonical Kubernetes (strict; older), k3s and RKE2, k0s, MicroK8s.
pub fn well_known_sockets() -> [&'static Path; 6] {
    [
        "/run/containerd/containerd.sock",
        "/var/snap/k8s/common/run/containerd/containerd.sock",
        "/var/snap/k8s/common/run/containerd.sock",
        "/run/k3s/containerd/containerd.sock",
        "/run/k0s/containerd.sock",
        "/var/snap/microk8s/common/run/containerd.sock",
    ]
    .map(Path::new)
}

/// The socket to use: `asked`, else the one kubelet runs with, else the well-known one where CRI answers, else,
/// unless `cri` is demanded, the first well-known one that answers at all.
///
/// Errors: CRI answers at several of them, and nothing tells which is kubelet's.
pub fn find_socket(asked: Option<&Path>, cri: bool, side: Side, stop: &Stop) -> Result<PathBuf> {
    if let Some(path) = asked {
        return Ok(strip_scheme(path));
    }
    if let Some(path) = kubelet_endpoint(Path::new("/proc")) {
        return Ok(path);
    }
    let (mut answering, mut serving, mut failed) = (None, Vec::new(), None);
    for path in well_known_sockets() {
        let client = match Client::connect(path, "k8s.io", side) {
            Ok(client) => client,
            Err(Error::Unreachable { source, .. }) if is_absent(&*source) => continue,
            Err(error) => {
                failed = failed.or(Some(error));
                continue;
            }
        };
        match client.stopping_with(stop).with_patience(PROBING).serves_cri() {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Ok(true) => serving.push(path),
            Ok(false) => answering = answering.or(Some(path.to_owned())),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let [first, others @ ..] = different(serving).as_slice() {
        if others.is_empty() {
            return Ok((*first).to_owned());
        }
        let all: Vec<String> =
            [first].into_iter().chain(others).map(|path| path.display().to_string()).collect();
        return Err(Error::Usage(format!(
            "several containerds serve CRI here, and no running kubelet tells which is its own: {}; name one with --address",
            all.join(", ")
        )));
    }
    match answering {
        Some(path) if !cri => Ok(path),
        Some(path) => Err(Error::Refused {
            side,
            action: format!("using {}", path.display()),
            reason: "CRI is disabled there, so it is not the containerd of a kubelet; name the socket with --address, \
                     or say --no-cri if this is the one"
                .into(),
        }),
        None => Err(failed.unwrap_or_else(|| {
            let places: Vec<String> = well_known_sockets().map(|path| path.display().to_string()).into();
            let source = io::Error::new(io::ErrorKind::NotFound, format!("no socket at {}", places.join(", ")));
            Error::Unreachable { side, address: "containerd".into(), source: source.into() }
        })),
    }
}

/// Each socket once, whatever paths lead to it.
fn different(paths: Vec<&Path>) -> Vec<&Path> {
    let mut seen = HashSet::new();
    let own = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    paths.into_iter().filter(|path| own(path).is_none_or(|file| seen.insert(file))).collect()
}

/// Whether a connection failed since there is no socket.
fn is_absent(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// `unix:///run/x.sock` is what kubelet and crictl write.
fn strip_scheme(path: &Path) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix("unix://")) {
        Some(rest) => PathBuf::from(rest),
        None => path.to_owned(),
    }
}

/// The endpoint on the command line of a running kubelet, or in the configuration file it names.
pub(crate) fn kubelet_endpoint(proc: &Path) -> Option<PathBuf> {
    let line = kubelet_arguments(proc)?;
    let arguments: Vec<&str> = line.iter().map(String::as_str).collect();
    if let Some(endpoint) = flag(&arguments, "container-runtime-endpoint") {
        return Some(strip_scheme(Path::new(endpoint)));
    }
    let text = std::fs::read_to_string(flag(&arguments, "config")?).unwrap_or_default();
    configured_endpoint(&text).map(|endpoint| strip_scheme(Path::new(endpoint)))
}

/// The command line of a running kubelet.
pub(crate) fn kubelet_arguments(proc: &Path) -> Option<Vec<String>> {
    for entry in std::fs::read_dir(proc).ok()?.flatten() {
        let is_kubelet =
            std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == "kubelet");
        if !is_kubelet {
            continue;
        }
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words = line.split(|b| *b == 0).filter_map(|word| std::str::from_utf8(word).ok());
        return Some(words.map(str::to_owned).collect());
    }
    None
}

/// The value of a flag on a command line, as `--name=value` or as two words.
pub(crate) fn flag<'a>(arguments: &[&'a str], name: &str) -> Option<&'a str> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix("--").and_then(|w| w.strip_prefix(name)) else { continue };
        match rest.strip_prefix('=') {
            Some(value) => return Some(value),
            None if rest.is_empty() => return words.next().copied(),
            None => {}
        }
    }
    None
}

/// `containerRuntimeEndpoint` of a KubeletConfiguration, a top-level key on a line of its own.
fn configured_endpoint(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("containerRuntimeEndpoint:"))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_flag_is_read_in_both_forms() {
        for line in [
            vec!["kubelet", "--container-runtime-endpoint=unix:///a.sock"],
            vec!["kubelet", "--v", "2", "--container-runtime-endpoint", "unix:///a.sock"],
        ] {
            assert_eq!(flag(&line, "container-runtime-endpoint"), Some("unix:///a.sock"));
        }
        assert_eq!(flag(&["kubelet", "--container-runtime-endpoints=x"], "container-runtime-endpoint"), None);
        assert_eq!(strip_scheme(Path::new("unix:///a.sock")), Path::new("/a.sock"));
    }

    #[test]
    fn a_socket_that_two_paths_lead_to_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other, link] = ["one", "other", "link"].map(|name| directory.path().join(name));
        let _listening = [&one, &other].map(|path| std::os::unix::net::UnixListener::bind(path).unwrap());
        std::os::unix::fs::symlink(&one, &link).unwrap();
        assert_eq!(different(vec![&one, &link, &other]), [&one, &other]);
    }

    #[test]
    fn kubelets_configuration_is_read() {
        assert_eq!(configured_endpoint("a: 1\ncontainerRuntimeEndpoint: \"unix:///b\"\n"), Some("unix:///b"));
        assert_eq!(configured_endpoint("containerRuntimeEndpoint: \"\"\n"), None);
    }
}

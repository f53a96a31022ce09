//! Getting to know a node: is it a kubelet's, where are its files, what does it unpack with.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lease::LIFETIME;
use crate::containerd::{Client, Plugin, Process, Version, find_socket};
use crate::error::{Error, Result, Side};
use crate::image::{Digest, Platform};
use crate::progress::Stop;

/// The namespace that CRI uses.
const CRI_NAMESPACE: &str = "k8s.io";
/// How long CRI may take to start, in times of the patience with containerd: it grows with the number of images.
const STARTING: u32 = 10;

/// What a person said about the node.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The socket, instead of looking for one.
    pub address: Option<PathBuf>,
    /// The namespace; kubelet's is `k8s.io`.
    pub namespace: String,
    /// The snapshotters, instead of what CRI uses.
    pub snapshotters: Vec<String>,
    /// The platform, instead of the node's own.
    pub platform: Option<Platform>,
    /// Do without CRI: this is no kubelet's containerd, or its CRI plugin is off.
    pub no_cri: bool,
    /// Nobody else uses it: a containerd that was started for this.
    pub alone: bool,
    /// How long containerd may give no sign of life, instead of [`Client::PATIENCE`].
    pub patience: Option<Duration>,
    /// Gives up calls when someone asks to stop.
    pub stop: Stop,
    /// How long a lease of an import lives unless it is renewed, instead of a week.
    pub lease: Option<Duration>,
}

/// A node, known well enough to plan for it.
#[derive(Debug)]
pub struct Node {
    /// The connection.
    pub client: Client,
    /// containerd's version.
    pub version: Version,
    /// Whether CRI is asked.
    pub cri: bool,
    /// Whether nobody else uses it.
    pub alone: bool,
    /// What layers are unpacked with, the default first.
    pub snapshotters: Vec<String>,
    /// What it runs.
    pub platform: Platform,
    /// Runtimes of pods for which CRI unpacks with something else: their names, and with what.
    pub other_runtimes: Vec<(String, String)>,
    /// By what its containerd chooses from an index, whatever is asked for.
    pub host: Platform,
    /// Where blobs are; `None` where that directory cannot be seen from here.
    pub content_root: Option<PathBuf>,
    /// Where layers are unpacked to; `None` where that directory cannot be seen from here.
    pub snapshot_root: Option<PathBuf>,
    /// How long a lease of an import lives unless it is renewed.
    pub lease: Duration,
}

impl Node {
    /// The chain_ids that are unpacked, of those that are `wanted`, for each snapshotter in use, the default one
    /// first.
    pub fn chains(&self, wanted: impl Fn(&Digest) -> bool) -> Result<Vec<(String, HashSet<Digest>)>> {
        let chains = |snapshotter: &String| {
            let mut there = HashSet::new();
            self.client.each_snapshot(snapshotter, |snapshot| {
                let chain_id = snapshot.name.parse().ok().filter(|_| snapshot.committed);
                there.extend(chain_id.filter(&wanted));
            })?;
            Ok((snapshotter.clone(), there))
        };
        self.snapshotters.iter().map(chains).collect()
    }

    /// Finds the node and asks what it is.
    pub fn survey(options: &NodeOptions) -> Result<Self> {
        if !options.no_cri && options.namespace != CRI_NAMESPACE {
            return Err(Error::Usage(format!(
                "kubelet sees the namespace {CRI_NAMESPACE} alone, not {}: say --namespace {CRI_NAMESPACE} (CONTAINERD_NAMESPACE may be set), or --no-cri if images are to be there all the same",
                options.namespace
            )));
        }
        let address = find_socket(options.address.as_deref(), !options.no_cri, Side::Node, &options.stop)?;
        let client = Client::connect(&address, &options.namespace, Side::Node)?
            .stopping_with(&options.stop)
            .with_patience(options.patience.unwrap_or(Client::PATIENCE));
        let version = client.version()?;
        let cri = !options.no_cri;
        if cri && client.await_cri(client.patience() * STARTING)?.is_none() {
            return Err(Error::Refused {
                side: Side::Node,
                action: format!("using the containerd at {}", address.display()),
                reason: "its CRI plugin is off or does not work, so it is not a kubelet's; say --no-cri if it is the one all the same"
                    .into(),
            });
        }
        let plugins = client.plugins()?;
        let snapshotters = match options.snapshotters.as_slice() {
            [] if cri => cri_snapshotters(&client.cri_image_roots()?, &plugins),
            [] => vec!["overlayfs".into()],
            named => named.to_vec(),
        };
        for name in &snapshotters {
            check_snapshotter(name, &plugins)?;
        }
        let platform = match &options.platform {
            Some(platform) => platform.clone(),
            None => node_platform(&plugins),
        };
        let other_runtimes = match cri {
            true => other_runtimes(client.cri_config()?.as_deref(), &snapshotters),
            false => Vec::new(),
        };
        let host = if options.alone { platform.clone() } else { node_platform(&plugins) };
        let process = Process::behind(client.address());
        // A fresh root has no such folder before the first blob; then what is above it is on the same filesystem.
        let visible = |root: Option<PathBuf>| {
            root.iter().flat_map(|root| root.ancestors().take(2)).find_map(|root| process.directory(root))
        };
        let content_root =
            plugins.iter().find(|p| p.kind == "io.containerd.content.v1").and_then(Plugin::root);
        let snapshot_root =
            snapshotters.first().and_then(|name| snapshotter(name, &plugins)).and_then(Plugin::root);
        Ok(Self {
            version,
            cri,
            alone: options.alone,
            snapshotters,
            platform,
            host,
            other_runtimes,
            snapshot_root: visible(snapshot_root.or_else(|| content_root.clone())),
            content_root: visible(content_root),
            lease: options.lease.unwrap_or(LIFETIME),
            client,
        })
    }

    /// Whether another process of this machine may be told by its files; else only over the socket.
    pub fn is_local(&self) -> bool {
        self.content_root.is_some()
    }
}

fn snapshotter<'a>(name: &str, plugins: &'a [Plugin]) -> Option<&'a Plugin> {
    plugins.iter().find(|plugin| plugin.kind == "io.containerd.snapshotter.v1" && plugin.id == name)
}

fn check_snapshotter(name: &str, plugins: &[Plugin]) -> Result<()> {
    let usable = |plugin: &&Plugin| plugin.kind == "io.containerd.snapshotter.v1" && plugin.failure.is_none();
    let reason = match snapshotter(name, plugins) {
        Some(Plugin { failure: None, .. }) => return Ok(()),
        Some(Plugin { failure: Some(failure), .. }) => format!("it does not work here: {failure}"),
        None => {
            let known: Vec<&str> = plugins.iter().filter(usable).map(|plugin| plugin.id.as_str()).collect();
            format!("containerd has no such snapshotter; it has {}", known.join(", "))
        }
    };
    Err(Error::Refused { side: Side::Node, action: format!("using snapshotter {name}"), reason })
}

/// The snapshotters whose root directories CRI reports.
///
/// containerd 1.x builds that path from the name, whatever root was configured; so where no root
/// matches, the last component tells (containerd `imagefs_info.go`).
pub(crate) fn cri_snapshotters(roots: &[String], plugins: &[Plugin]) -> Vec<String> {
    let name = |root: &String| {
        let by_root = plugins
            .iter()
            .filter(|plugin| plugin.kind == "io.containerd.snapshotter.v1")
            .find(|plugin| plugin.exports.get("root") == Some(root));
        match by_root {
            Some(plugin) => Some(plugin.id.clone()),
            None => Path::new(root)
                .file_name()?
                .to_str()?
                .strip_prefix("io.containerd.snapshotter.v1.")
                .map(str::to_owned),
        }
    };
    let mut names: Vec<String> = Vec::new();
    for found in roots.iter().filter_map(name) {
        if !names.contains(&found) {
            names.push(found);
        }
    }
    if names.is_empty() {
        names.push("overlayfs".into());
    }
    names
}

/// The runtimes in CRI's configuration that have a snapshotter of their own, which is none of `known`.
fn other_runtimes(config: Option<&str>, known: &[String]) -> Vec<(String, String)> {
    let config: Option<serde_json::Value> = config.and_then(|text| serde_json::from_str(text).ok());
    let runtimes = config.as_ref().and_then(|config| config["containerd"]["runtimes"].as_object());
    let own = |(runtime, settings): (&String, &serde_json::Value)| {
        let name = settings["snapshotter"].as_str().filter(|name| !name.is_empty())?;
        (!known.iter().any(|known| known == name)).then(|| (runtime.clone(), name.to_owned()))
    };
    runtimes.into_iter().flatten().filter_map(own).collect()
}

/// What containerd's differ works for: the platform of the machine it runs on.
fn node_platform(plugins: &[Plugin]) -> Platform {
    let differ = plugins.iter().find(|p| p.kind == "io.containerd.differ.v1" && !p.platforms.is_empty());
    differ.map_or_else(Platform::host, |plugin| plugin.platforms[0].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(kind: &str, id: &str, root: Option<&str>) -> Plugin {
        let exports = root.map(|root| ("root".to_owned(), root.to_owned())).into_iter().collect();
        Plugin { kind: kind.into(), id: id.into(), exports, platforms: Vec::new(), failure: None }
    }

    #[test]
    fn runtimes_with_a_snapshotter_of_their_own_are_told() {
        let config = r#"{"containerd": {"snapshotter": "overlayfs", "runtimes": {
            "kata": {"snapshotter": "devmapper"}, "runc": {"snapshotter": ""}, "crun": {"snapshotter": "overlayfs"}}}}"#;
        let found = other_runtimes(Some(config), &["overlayfs".into()]);
        assert_eq!(found, [("kata".to_owned(), "devmapper".to_owned())]);
        assert!(other_runtimes(None, &[]).is_empty());
    }

    #[test]
    fn the_snapshotter_is_told_by_its_root_or_by_the_name_of_the_directory() {
        let kind = "io.containerd.snapshotter.v1";
        let plugins = [plugin(kind, "overlayfs", Some("/elsewhere")), plugin(kind, "native", None)];
        let named = "/var/lib/containerd/io.containerd.snapshotter.v1.native".to_owned();
        assert_eq!(cri_snapshotters(&["/elsewhere".into()], &plugins), ["overlayfs"]);
        assert_eq!(cri_snapshotters(std::slice::from_ref(&named), &plugins), ["native"]);
        assert_eq!(cri_snapshotters(&["/elsewhere".into(), named], &plugins), ["overlayfs", "native"]);
        assert!(check_snapshotter("zfs", &plugins).is_err());
    }
}

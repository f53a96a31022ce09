//! The flags with which the commands that work on a node find it.

use std::path::PathBuf;
use std::time::Duration;

use super::habits;
use super::output::Output;
use crate::containerd::Client;
use crate::error::{Error, Result};
use crate::image::{Platform, Reference};
use crate::node::{Node, NodeOptions, cri_snapshotters};
use crate::progress::Stop;

/// Which containerd.
#[derive(Debug, clap::Args)]
pub(super) struct NodeArgs {
    /// containerd's socket [default: kubelet's]
    ///
    /// containerd's socket [default: kubelet's, or where distributions put it]
    #[arg(long, short = 'a', env = "CONTAINERD_ADDRESS", value_name = "SOCKET", help_heading = "Node")]
    address: Option<PathBuf>,
    /// containerd's namespace; kubelet uses k8s.io
    #[arg(
        long,
        short = 'n',
        env = "CONTAINERD_NAMESPACE",
        default_value = "k8s.io",
        help_heading = "Node",
        hide_short_help = true
    )]
    namespace: String,
    /// The snapshotter to unpack with [default: the one that CRI uses]; given several times, with each
    #[arg(long = "snapshotter", value_name = "NAME", help_heading = "Node", hide_short_help = true)]
    snapshotters: Vec<String>,
    /// Seconds that containerd may give no sign of life; a long call of one that lives takes as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = Client::PATIENCE.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Node", hide_short_help = true)]
    timeout: u64,
    /// Do not ask CRI: this containerd is no kubelet's, or its CRI plugin is off
    #[arg(long, help_heading = "Node", hide_short_help = true)]
    no_cri: bool,
}

impl NodeArgs {
    /// Finds the node and asks what it is.
    pub(super) fn survey(&self, platform: Option<&str>, stop: &Stop, output: &Output) -> Result<Node> {
        let platform: Option<Platform> = platform
            .map(|text| text.parse().map_err(|error| Error::Usage(format!("{error}"))))
            .transpose()?;
        let node = Node::survey(&NodeOptions {
            address: self.address.clone(),
            namespace: self.namespace.clone(),
            snapshotters: self.snapshotters.clone(),
            platform,
            no_cri: self.no_cri,
            alone: false,
            patience: Some(Duration::from_secs(self.timeout)),
            stop: stop.clone(),
            lease: None,
        })?;
        self.warn_of_another_snapshotter(&node, output)?;
        if output.verbose() {
            output.say(format_args!(
                "containerd {} at {}, namespace {}, {}, snapshotter {}{}",
                node.version.text,
                node.client.address().display(),
                node.client.namespace(),
                node.platform,
                node.snapshotters.join(", "),
                if node.cri { "" } else { ", CRI not asked" },
            ));
        }
        Ok(node)
    }
}

impl NodeArgs {
    /// Says where CRI unpacks with another snapshotter than those that were asked for.
    fn warn_of_another_snapshotter(&self, node: &Node, output: &Output) -> Result<()> {
        if self.snapshotters.is_empty() || !node.cri {
            return Ok(());
        }
        let asked = self.snapshotters.join(", ");
        let used = cri_snapshotters(&node.client.cri_image_roots()?, &node.client.plugins()?);
        if !self.snapshotters.iter().any(|name| used.contains(name)) {
            output.complain(format_args!(
                "warning: CRI uses the snapshotter {} here, not {asked}: what is unpacked with {asked} is of no use to kubelet",
                used.join(", ")
            ));
        }
        Ok(())
    }
}

/// Parses names of images.
pub(super) fn references(names: &[String]) -> Result<Vec<Reference>> {
    names
        .iter()
        .map(|name| habits::without_transport(name).parse().map_err(|error| Error::Usage(format!("{error}"))))
        .collect()
}

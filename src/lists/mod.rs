//! Where the names of images come from when nobody types them: lists of references, also the one
//! inside a snap, and Kubernetes manifests. What would not start from them without a network is found here too.

pub mod kubernetes;
mod mentions;
mod offline;
mod pattern;
pub mod references;
mod snap;
mod tags;
mod text;
mod yaml;

pub use offline::warnings;
pub use pattern::Pattern;
pub use tags::{Comparison, TagFilter, TagsOf, Version};

use crate::image::Reference;

/// An image that something names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The image.
    pub image: Reference,
    /// Where it is named: `deploy.yaml:12`.
    pub place: String,
    /// When kubelet will ask a registry for it.
    pub pull: Pull,
}

/// When kubelet asks a registry for an image (Kubernetes, `imagePullPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Each time a container starts.
    Always,
    /// Only when the node does not have it.
    IfNotPresent,
    /// Not said: each time for the tag `latest`, else only when the node does not have it.
    Unsaid,
}

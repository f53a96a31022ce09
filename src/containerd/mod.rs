//! containerd over gRPC, with a blocking face. One file for each of its services.
//!
//! Async lives here and nowhere above: [`Client`] owns a small runtime, and every method blocks the
//! calling thread until containerd has answered. The client decides nothing; what is sent in which
//! order is the business of `plan` and `import`.

mod client;
mod configuration;
mod containers;
mod content;
mod cri;
mod diff;
mod images;
mod introspection;
mod leases;
mod namespaces;
mod process;
mod snapshots;
mod socket;
mod watch;

pub use client::Client;
pub use configuration::{CONFIGURATION, Configuration};
pub use containers::Container;
pub use content::{BlobInfo, Committed, ContentIngest, Opened, Partial};
pub use cri::{CriContainer, CriImage, api as cri_api};
pub use images::ImageRecord;
pub use introspection::{Plugin, Version};
pub use leases::{Lease, Resource};
pub use process::Process;
pub use snapshots::{Directories, Mounts, Prepared, Snapshot};
pub use socket::{find_socket, well_known_sockets};
pub(crate) use socket::{flag, kubelet_arguments, kubelet_endpoint};
pub(crate) use watch::Silent;

/// Labels that containerd and its CRI plugin give a meaning to.
pub mod label {
    /// On a layer: the diff_id its bytes unpack to, set after that was checked.
    pub const UNCOMPRESSED: &str = "containerd.io/uncompressed";
    /// Prefix on a blob: this other blob stays as long as this one (a suffix makes it unique).
    pub const GC_CONTENT: &str = "containerd.io/gc.ref.content";
    /// Prefix on a config: the snapshot, named by chain_id, that stays as long as it; the
    /// snapshotter follows.
    pub const GC_SNAPSHOT: &str = "containerd.io/gc.ref.snapshot";
    /// On a lease: when it ends, as RFC 3339.
    pub const GC_EXPIRE: &str = "containerd.io/gc.expire";
    /// On a snapshot that is being made: the chain_id it is for.
    pub const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
    /// Prefix on a blob: the repositories it came from; the registry's host follows.
    pub const DISTRIBUTION_SOURCE: &str = "containerd.io/distribution.source";
    /// On an image record: CRI knows it, and has made its own record of the image, named by the image's id.
    pub const MANAGED: &str = "io.cri-containerd.image";
    /// The value of [`MANAGED`].
    pub const MANAGED_VALUE: &str = "managed";
    /// On an image record: kubelet does not collect the image.
    pub const PINNED: &str = "io.cri-containerd.pinned";
    /// Ours, on an image record: the image id it stands for.
    pub const OF_IMAGE: &str = "io.pannier.image";
    /// The value of [`PINNED`].
    pub const PINNED_VALUE: &str = "pinned";
}

//! The node: the containerd that images are put into, and what is done to it, piece by piece.

mod alive;
mod check;
mod durable;
mod ghost;
mod held;
mod hold;
mod lease;
mod manifest;
mod name;
mod origin;
mod orphan;
mod outage;
mod prune;
mod rebuild;
mod renew;
mod repair;
mod sandbox;
mod send;
mod snapshot;
mod survey;
mod take_inventory;
mod unpack;
mod work;

pub use check::{BlobFinding, Checked, check_images};
pub(crate) use durable::sync;
pub use held::{Depth, held};
pub(crate) use hold::abort_unfinished;
pub use lease::HeldLease;
pub(crate) use lease::{drop_orphans, left_behind};
pub(crate) use manifest::manifest;
pub use name::{Naming, unpin};
pub use prune::{PrunedNames, imported, prune, uses};
pub use repair::Fault;
pub use sandbox::Sandbox;
pub use snapshot::{SnapshotFault, SnapshotFinding};
pub(crate) use survey::cri_snapshotters;
pub use survey::{Node, NodeOptions};
pub use take_inventory::take_inventory;
pub use work::{Done, carry_out};

/// Labels of our own: what on a node came from here.
pub mod label {
    /// On an image record: the id of the medium.
    pub const MEDIUM: &str = "io.pannier.medium";
    /// On an image record: the sequence of the export.
    pub const SEQUENCE: &str = "io.pannier.sequence";
    /// On an image record: the image id it stands for.
    pub const IMAGE: &str = crate::containerd::label::OF_IMAGE;
    /// On a lease: its import gives a sign of life, from shortly after the lease was made.
    pub const SIGN: &str = "io.pannier.sign";
    /// On a lease: the process that holds it.
    pub const OWNER: &str = "io.pannier.owner";
}

/// The prefix of the names of our ingests and leases, so that no pull of CRI's shares them.
pub(crate) const PREFIX: &str = "pannier-";

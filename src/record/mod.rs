//! The format: everything that a commit record says, as pure values. `docs/format.md` describes it.
//!
//! No file, socket or clock: [`crate::medium`] reads and writes records, [`crate::plan`] compares them.

mod artifact;
mod basis;
mod changes;
mod commit;
mod delta;
mod entries;
mod file;
mod files;
mod geometry;
mod lane;
mod level;
mod listing;
mod needs;
mod parts;
mod plugged;
mod pruned;
mod root_file;
#[cfg(test)]
mod schema;
mod sound;
mod volume;

pub(crate) use artifact::{FILES_NAME, FILES_TYPE};
pub(crate) use basis::is_host;
pub use basis::{Basis, TopUp};
pub use changes::changes;
pub(crate) use commit::FORMAT;
pub(crate) use commit::TOOL;
pub use commit::{Origin, Record, Recovery, RecoveryFile};
pub use delta::{DELTA, Delta};
pub use entries::{Blob, Encoded, Image, ImagePlatform, Layer, Referrer, Role};
pub use file::Unusable;
pub use files::{CarriedFile, FileName, FileNameError};
pub use geometry::Geometry;
pub(crate) use geometry::{BLOCK, FILE, RUN};
pub use lane::{Lane, LaneName, Timestamp};
pub use level::Level;
pub use listing::{ListedDelta, ListedImage, ListedRecovery, ListedReferrer, Listing, list};
pub use parts::Parts;
pub use plugged::Plugged;
pub use pruned::Pruned;
pub use root_file::{RootFile, RootName};
pub use volume::{Elsewhere, Volume};

//! Decisions. Everything here is pure: values in, a plan out; no file, no socket, no clock.

mod carried;
mod delta;
mod export;
mod files;
pub mod import;
mod next;
pub mod prune;
pub mod repair;
mod spread;

pub use carried::{carried_index, carried_manifest};
pub use delta::{At, Base, BaseImage, Bases, DeltaStep, Target};
pub use export::{ExportPlan, ImageVerdict, LayerStep, MediumState, Pick, ReferrerStep, Verdict};
pub use files::{FileOrigin, FileStep, FileVerdict, files as plan_files};
pub use next::{ExportedImage, ExportedLayer, next_record};
pub use spread::{Load, NoRoom, Room, spread};

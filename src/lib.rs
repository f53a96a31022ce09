//! Pannier carries sets of container images across an air gap.

pub mod cli;
pub mod containerd;
pub mod content;
pub mod error;
pub mod export;
pub mod image;
pub mod images;
pub mod import;
pub mod layer;
pub mod list;
pub mod lists;
pub mod medium;
pub mod node;
pub mod plan;
pub mod progress;
pub mod readback;
pub mod source;
pub mod verify;

pub use error::{Error, Result, Side};

//! Pannier carries sets of container images across an air gap.

pub mod content;
pub mod error;
pub mod image;
pub mod medium;
pub mod progress;
pub mod source;

pub use error::{Error, Result, Side};

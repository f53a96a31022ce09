//! Faults at every moment: of media, by a disk that a test drives, and of containerd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod care;
mod media;
mod node;

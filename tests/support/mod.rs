//! What the integration tests share. Each test file uses its own part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod docker;
pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod tarball;

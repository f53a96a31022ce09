//! What the integration tests share. Each test file uses its own part of it.
#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

pub(crate) mod docker;
pub(crate) mod image;
pub(crate) mod layout;
pub(crate) mod pushed;
pub(crate) mod registry;
pub(crate) mod tarball;

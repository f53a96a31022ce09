//! `pannier serve`, `push`, `hosts` and `digests`: a medium and a node as registries, with real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod clients;
mod hostile;
mod mirror;
mod nodes;
mod push;

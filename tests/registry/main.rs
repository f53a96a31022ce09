//! What needs other programs: a registry on loopback, a proxy, and the tools that read what Pannier writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod export;
mod faults;
mod layouts;
mod other_tools;
mod peers;
mod quirks;
mod referrers;
mod source;

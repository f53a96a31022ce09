//! What a bare Linux machine can test: layouts, archives, media in a folder, signatures, the command line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod cli;
mod digests;
mod docs;
mod export;
mod files;
mod fixtures;
mod hostile_signature;
mod interrupted;
mod invariants;
mod laundering;
mod layout_builder;
mod local_sources;
mod manifests;
mod medium;
mod named_images;
mod odd_platforms;
mod onsite;
mod outside;
mod planted;
mod prune;
mod reader;
mod recovery;
mod repair;
mod signing;
mod states;
mod trust;
mod vectors;

//! What needs a node: root, and the containerds of `target/tools`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod bake;
mod containerd_source;
mod corpus;
mod delta;
mod discards;
mod docs;
mod doctor;
mod gate;
mod hostile_media;
mod import;
mod import_damage;
mod import_foreign;
mod import_resume;
mod names;
mod onsite;
mod others;
mod plug_in;
mod topup;
mod unpacked;
mod update;
mod volumes;

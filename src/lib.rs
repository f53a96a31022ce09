//! Pannier carries sets of container images across an air gap and puts them straight into containerd.
//!
//! ```text
//!   source/ ──> plan/export ──> medium/ ──> plan/import ──> node/
//!   registry    what is missing  an OCI      what is missing  containerd's
//!   containerd  on the medium,   layout and  on the node,     k8s.io namespace,
//!   layouts,    by diff_id       commit      by diff_id       over gRPC
//!   archives                     records
//! ```
//!
//! [`export`] and [`import`] read as the story of the two halves. Where to look for the rest:
//!
//! | room | what is in it |
//! |---|---|
//! | [`image`] | the nouns: digest, descriptor, reference, platform, manifest, config; no input or output |
//! | [`source`] | where images come from, one file for each kind, behind one trait |
//! | [`lists`] | which images: reference lists, Kubernetes manifests, snaps |
//! | [`layer`] | a layer's bytes: decoding to its diff_id, recompressing with zstd, deltas against another |
//! | [`plan`] | decisions, pure: what has to move, and why |
//! | [`record`] | the format: what a commit record says, as pure values |
//! | [`medium`] | the directory that is carried: reading and writing blobs, commit records, index.json |
//! | [`containerd`] | the gRPC client; [`node`] uses it to send, unpack, name and repair |
//! | [`bake`] | the same for a containerd that does not run, in an image of a machine; [`sysroot`] finds paths there |
//! | [`diff`] | what a medium, an inventory or a node has that another has not |
//! | [`doctor`] | whether a node is ready: facts, and pure checks of them |
//! | [`inventory`] | what a node holds, as a file: an export leaves it out |
//! | [`verify`], [`readback`], [`images`] | looking at a medium, and at a node |
//! | [`extract`] | files that travel beside the images, onto this machine |
//! | [`elf`] | what the head of a program says: what it runs on, and with what |
//! | [`repair`], [`recovery`] | getting back what is damaged on a medium, also from parity on it |
//! | [`prune`], [`eject`] | taking images off a medium, and it off the machine |
//! | [`limits`] | how much is read of what comes from outside |
//! | [`trust`] | who signed a medium, whose signatures count, and the gate that a medium passes: [`trust::Admission`] |
//! | [`config`] | what the administrator of a machine has decided |
//! | [`serve`] | a medium, or what a node holds, as a read-only registry; [`push`] fills another one |
//! | [`watch`] | waiting for media that are plugged in |
//! | [`cli`] | the command line: everything that is printed or drawn |
//!
//! # Invariants
//!
//! - **A layer is its diff_id.** Two encodings of one tar are one layer: carried once, and not sent to
//!   a node that holds it in any encoding.
//! - **Nothing is believed that was not hashed.** [`content::Verified`] is how content is read; the
//!   bytes that are hashed are the bytes that are sent. What is left of an earlier run counts only for
//!   what its bytes prove to be.
//! - **Children before parents.** A blob is there before what names it; the commit record comes last
//!   on a medium, an image's names last on a node. Killed at any moment, nothing that is named is
//!   missing.
//! - **A plan is a value.** [`plan`] reads no file, socket or clock; executors decide nothing; a dry run
//!   prints the plan.
//! - **The medium's state is one record** under a name that is never used again. `index.json` is
//!   derived from it, and there is no other state file.
//! - **One file syncs and renames**: `medium/durable.rs`. Everything on a medium is opened beneath its
//!   root, through no link.
//! - **The core is blocking.** Asynchronous code lives inside [`containerd`], the registry client and the
//!   server of [`serve`].
//! - **An error says which side failed** ([`Side`]), on what, and the command line says what to do next.

pub mod bake;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod containerd;
pub mod content;
pub mod diff;
pub mod doctor;
pub mod eject;
pub mod elf;
pub mod error;
pub mod export;
pub mod extract;
pub mod image;
pub mod images;
pub mod import;
pub mod inventory;
pub mod layer;
pub mod limits;
pub mod lists;
pub mod medium;
pub mod node;
mod patterns;
pub mod plan;
pub mod progress;
pub mod prune;
pub mod push;
pub mod readback;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod serve;
pub mod source;
pub mod sysroot;
pub mod trust;
mod unique;
pub mod verify;
pub mod watch;

pub use error::{Error, Result, Side};
